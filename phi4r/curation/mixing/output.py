"""The end of curation: data sets that the configs of SFT and GRPO read by name.

    FOLDER/NAME_sft/VERSION/     traces, splits "train" and "held_out": tfds:NAME_sft/train@FOLDER
    FOLDER/NAME_rl/VERSION/      problems with answers, the same splits
    FOLDER/NAME_rl_SPLIT.jsonl   the same problems as a task of GRPO: jsonl:FOLDER/NAME_rl_train.jsonl
    FOLDER/sources.json          what `data.sources` of an SFT config takes: a slice and a weight for every cluster

Items are read twice, once to count and once to write, and never held: what grows with the set is 4 bytes an item for
its length, and some 60 a problem to find prompts that come again. What is held out is noted on the items
(`phi4r.curation.overlap.held_out`).
"""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import IO

import numpy as np

from phi4r.curation.item import Item
from phi4r.curation.mixing.lengths import TOKENS, make_counter
from phi4r.curation.mixing.mixture import ClusterCount, MixtureSettings, cluster_of, in_order, mixture_table
from phi4r.curation.mixing.survey import (
    OutputSettings,
    Survey,
    check_survey,
    is_problem,
    survey_items,
)
from phi4r.curation.overlap.held_out import HELD_OUT, TRAIN, side_of
from phi4r.data.packing import PackReport, pack_report
from phi4r.data.records import atomic_path, write_json
from phi4r.data.tfds_writer import TfdsWriter, WrittenSplit

_WINDOW = 4096  # examples that training packs together (`DataSettings.window`)


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set that was written."""

    name: str
    folder: pathlib.Path
    splits: dict[str, WrittenSplit]


@dataclasses.dataclass(frozen=True)
class Output:
    """What curation made.

    Attributes:
      folder: that holds the data sets.
      sft: traces, or None where no item has a solution.
      rl: problems, or None where no item has an answer.
      sources: what `data.sources` of an SFT config takes, in the order of the clusters, the safety data last.
      counts: of the training traces of every cluster.
      unit: what length is counted in.
      held_out_length: of the traces that are held out.
      packing: how the training traces fill rows, every one once; None where words are counted.
      origins: (source, licence) -> items that were written.
      neither: items without answer and without solution, which are in neither set.
    """

    folder: pathlib.Path
    sft: DataSet | None
    rl: DataSet | None
    sources: tuple[dict[str, str | float], ...]
    counts: dict[str, ClusterCount]
    unit: str
    held_out_length: int
    packing: PackReport | None
    origins: dict[tuple[str, str], int]
    neither: int


def write_output(
    read: Callable[[], Iterator[Item]],
    folder: str | os.PathLike,
    *,
    output: OutputSettings,
    mixture: MixtureSettings,
) -> Output:
    """Writes both data sets and sources.json.

    Args:
      read: gives an iterator over all items, with their clusters noted.
      folder: that is to hold the data sets; as it is written here, it stands in sources.json.
      output: what is written.
      mixture: the weights of the clusters.

    Raises:
      UserError: for an item without a cluster or a cluster without a weight, traces that are too long, an output
        without items, or a folder that cannot be written.
    """
    folder = pathlib.Path(folder)
    count, unit = make_counter(output.tokenizer)
    fits = (lambda length: length <= output.row_length) if unit == TOKENS else (lambda length: True)
    survey = survey_items(read(), output, mixture, count, fits)
    check_survey(survey, output, mixture)
    # Lengths are counted again only where it matters: tokenising is most of the work.
    sft, rl = _write(read(), folder, survey, output, mixture, lambda item: not survey.overlong or fits(count(item)))
    sources = _sources(sft, survey.counts, mixture)
    write_json(folder / "sources.json", sources)
    table = mixture_table(survey.counts, mixture, unit=unit)
    for suffix, text in ((".md", table.markdown()), (".csv", table.csv())):
        with atomic_path(folder / f"mixture{suffix}") as partial:
            partial.write_text(text, encoding="utf-8")
    return Output(
        folder=folder,
        sft=sft,
        rl=rl,
        sources=sources,
        counts={name: survey.counts[name] for name in in_order(survey.counts, mixture)},
        unit=unit,
        held_out_length=survey.held_out_length,
        packing=_packing(survey, output) if unit == TOKENS else None,
        origins=dict(survey.origins),
        neither=survey.neither,
    )


def _write(
    items: Iterator[Item],
    folder: pathlib.Path,
    survey: Survey,
    output: OutputSettings,
    mixture: MixtureSettings,
    fits: Callable[[Item], bool],
) -> tuple[DataSet | None, DataSet | None]:
    """Writes the data sets and the problems as JSON lines."""
    options = {"version": output.version, "shard_bytes": output.shard_mib << 20}
    with contextlib.ExitStack() as stack:
        sft = rl = None
        if survey.lengths or survey.held_out:
            sft = stack.enter_context(TfdsWriter(folder, f"{output.name}_sft", **options))
        if survey.problems:
            rl = stack.enter_context(TfdsWriter(folder, f"{output.name}_rl", **options))
        files: dict[str, IO[str]] = {}
        asked: set[int] = set()  # prompts that are problems already
        for item in items:
            split = side_of(item)
            if sft and item.solution.strip() and fits(item):
                if split == HELD_OUT:
                    sft.write(split, item.trace())
                elif mixture.times(item):
                    sft.write(split, item.trace(), group=cluster_of(item))
            if rl and is_problem(item, output, mixture) and hash(item.prompt) not in asked:
                asked.add(hash(item.prompt))
                rl.write(split, item.problem())
                if split not in files:
                    path = stack.enter_context(atomic_path(folder / f"{output.name}_rl_{split}.jsonl"))
                    files[split] = stack.enter_context(path.open("w", encoding="utf-8", errors="replace"))
                files[split].write(json.dumps(item.problem().to_dict(), ensure_ascii=False) + "\n")
    return tuple(writer and DataSet(writer.name, writer.folder, writer.written) for writer in (sft, rl))


def _sources(
    sft: DataSet | None, counts: dict[str, ClusterCount], mixture: MixtureSettings
) -> tuple[dict[str, str | float], ...]:
    """Returns spec and weight of every cluster in the mixture.

    The stream of training takes examples in proportion to the weights, so the weight of a cluster is the number of its
    items in one pass over the mixture.
    """
    if sft is None or TRAIN not in sft.splits:
        return ()
    slices, root = sft.splits[TRAIN].slices, sft.folder.parent.parent
    return tuple(
        {
            "spec": f"tfds:{sft.name}/{TRAIN}[{slices[name][0]}:{slices[name][1]}]@{root}",
            "weight": float(counts[name].drawn),
        }
        for name in in_order(slices, mixture)
    )


def _packing(survey: Survey, output: OutputSettings) -> PackReport:
    lengths = np.array(survey.lengths, np.int32)
    shards = (lengths[start : start + _WINDOW] for start in range(0, len(lengths), _WINDOW))
    report = pack_report(shards, output.row_length)
    return dataclasses.replace(report, num_overlong=survey.overlong, longest=survey.longest)
