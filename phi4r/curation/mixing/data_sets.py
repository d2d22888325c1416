"""The last stage: the mixture, written as data sets that the configs of SFT and GRPO read by name."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from phi4r.curation.item import Item
from phi4r.curation.mixing.card import write_card
from phi4r.curation.mixing.mixture import MixtureSettings
from phi4r.curation.mixing.output import Output, OutputSettings, write_output
from phi4r.curation.teaching.traces import expanded


@dataclasses.dataclass(frozen=True)
class DataSetSettings:
    """What is written, and of what.

    Attributes:
      folder: that holds the data sets; empty for data in the workdir.
      data: names, sizes and splits.
      mixture: weights of the clusters (section 2.2).
    """

    folder: str = ""
    data: OutputSettings = dataclasses.field(default_factory=OutputSettings)
    mixture: MixtureSettings = dataclasses.field(default_factory=MixtureSettings)


class DataSets:
    """Writes data sets and their card; of a prompt with several traces each is a row."""

    name = "output"

    def __init__(self, settings: DataSetSettings, workdir: str | os.PathLike):
        """Writes nothing yet."""
        self._settings, self._workdir = settings, pathlib.Path(workdir)

    def write(self, read: Callable[[], Iterator[Item]], settings: Mapping[str, Any]) -> dict[str, Any]:
        """Writes everything.

        Args:
          read: gives an iterator over all items.
          settings: of all stages by name, for the card.

        Returns:
          What was written, as JSON values.

        Raises:
          UserError: for items that make no data set, or a folder that cannot be written.
        """
        folder = pathlib.Path(self._settings.folder or self._workdir / "data")
        output = write_output(
            functools.partial(_every_trace, read), folder, output=self._settings.data, mixture=self._settings.mixture
        )
        places = [source.place for source in settings["seeds"].sources.values()]
        write_card(
            output,
            mixture=self._settings.mixture,
            settings=settings,
            workdir=self._workdir,
            inputs=[place for place in places if os.path.isfile(place)],
        )
        return {"folder": os.fspath(output.folder), "data_sets": _rows(output), "neither": output.neither}


def _every_trace(read: Callable[[], Iterator[Item]]) -> Iterator[Item]:
    for item in read():
        yield from expanded(item)


def _rows(output: Output) -> dict[str, int]:
    """Returns the rows of each split of each data set."""
    return {
        f"{data.name}/{split}": written.num_rows
        for data in (output.sft, output.rl)
        if data is not None
        for split, written in data.splits.items()
    }
