"""The data card: what is in the data sets, where it came from, what decided about it, and how a config reads it."""

import dataclasses
import json
import os
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from phi4r.curation.mixing.lengths import TOKENS
from phi4r.curation.mixing.mixture import ClusterCount, MixtureSettings, mixture_table
from phi4r.curation.mixing.output import DataSet, Output
from phi4r.curation.mixing.provenance import StageCount, code_version, hashes_of, stage_counts
from phi4r.curation.overlap.held_out import HELD_OUT, TRAIN
from phi4r.data.records import atomic_path
from phi4r.evals.reporting.tables import Table

CARD_FILE = "README.md"


def write_card(
    output: Output,
    *,
    mixture: MixtureSettings,
    settings: Mapping[str, Any],
    workdir: str | os.PathLike,
    inputs: Iterable[str | os.PathLike] = (),
) -> pathlib.Path:
    """Writes FOLDER/README.md beside the data sets, and returns its path.

    Args:
      output: what `write_output` returned.
      mixture: the weights.
      settings: name of the stage -> its settings, a dataclass or a mapping.
      workdir: with a folder for each stage, whose summary.json is read.
      inputs: files that the seeds came from.

    Raises:
      UserError: if the folder cannot be written.
    """
    sections = [
        f"# {(output.sft or output.rl).name.rpartition('_')[0]}",
        f"Made by {code_version()}, curation (sections 2, 2.1 and 2.2 of the Phi-4-reasoning report).",
        "## Data sets",
        _data_sets(output).markdown(),
        _lengths_text(output),
        "## How to read it",
        config_snippet(output),
        "## Mixture",
        mixture_table(output.counts, mixture, unit=output.unit).markdown() if output.counts else "No traces.",
        "## Licences",
        _licences(output).markdown(),
        "## Stages",
        _stages_text(stage_counts(workdir)),
        "## Thresholds",
        "All settings of all stages, as they were used.",
        f"```json\n{json.dumps(_plain_settings(settings), indent=2, ensure_ascii=False, default=str)}\n```",
        "## Hashes",
        _hashes(output, hashes_of(inputs)).markdown(),
    ]
    path = output.folder / CARD_FILE
    with atomic_path(path) as partial:
        partial.write_text("\n\n".join(text.strip() for text in sections) + "\n", encoding="utf-8", errors="replace")
    return path


def config_snippet(output: Output) -> str:
    """Returns what to write into configs of SFT and GRPO to read the data sets."""
    lines = []
    if output.sources:
        lines += ["# SFT: the weight of a cluster is its items in one pass over the mixture", "config.data.sources = ("]
        lines += [f"    {json.dumps(source)}," for source in output.sources]
        lines += [")"]
    if output.sft and HELD_OUT in output.sft.splits:
        held_out = f"tfds:{output.sft.name}/{HELD_OUT}@{output.folder}"
        lines += [f"config.eval_data.sources = ({json.dumps({'spec': held_out})},)"]
    if output.rl and TRAIN in output.rl.splits:
        lines += ["# GRPO", f'config.task = "jsonl:{output.folder}/{output.rl.name}_{TRAIN}.jsonl"']
    return "```python\n" + "\n".join(lines) + "\n```"


def _data_sets(output: Output) -> Table:
    rows = [
        [f"tfds:{data.name}/{split}@{output.folder}", f"{written.num_rows:,}", f"{written.num_bytes / 1e6:,.1f}"]
        for data in _written(output)
        for split, written in data.splits.items()
    ]
    return Table("data_sets", ["split", "rows", "MB"], rows, "Shards of ArrayRecord: TFDS reads them at random.")


def _lengths_text(output: Output) -> str:
    """Says how long the traces are, and how they fill rows."""
    if output.sft is None:
        return "No item has a solution, so there are no traces."
    total = ClusterCount()
    for count in output.counts.values():
        total = ClusterCount(
            *(a + b for a, b in zip(dataclasses.astuple(total), dataclasses.astuple(count), strict=True))
        )
    counted = "tokens of the model to train" if output.unit == TOKENS else "words: no tokenizer was named"
    lines = [
        f"* Lengths are in {counted}.",
        f"* Training traces: {total.items:,} with {total.tokens:,} {output.unit}; the mixture has {total.kept:,} of "
        f"them, and one pass over it {total.drawn:,} with {total.drawn_tokens:,} {output.unit}.",
        f"* Held out: {output.held_out_length:,} {output.unit}.",
    ]
    if output.packing is not None:
        lines.append(f"* Packing, each trace of the mixture once: {output.packing}.")
    if output.neither:
        lines.append(f"* {output.neither:,} items have neither a solution nor an answer, and are in neither set.")
    return "\n".join(lines)


def _licences(output: Output) -> Table:
    rows = [
        [source or "unknown", licence or "unknown", f"{items:,}"]
        for (source, licence), items in sorted(output.origins.items())
        if items
    ]
    return Table("licences", ["source", "licence", "items"], rows, "Items that are in a data set, by origin.")


def _stages_text(counts: Iterable[StageCount]) -> str:
    """Returns a table of counts in and out, and of the reasons for what was dropped."""
    counts = list(counts)
    if not counts:
        return "No stage left a summary."
    cells = [[stage.name, *map(_number, (stage.num_in, stage.num_out, stage.failed))] for stage in counts]
    text = Table("stages", ["stage", "in", "out", "failed"], cells).markdown()
    reasons = [
        [stage.name, reason, _number(number)]
        for stage in counts
        for reason, number in Counter(stage.reasons).most_common()
    ]
    return text + "\n" + Table("reasons", ["stage", "dropped for", "items"], reasons).markdown() if reasons else text


def _hashes(output: Output, inputs: Mapping[str, str]) -> Table:
    rows = [["input", name, digest] for name, digest in inputs.items()]
    rows += [
        ["output", f"{data.name}/{split}", written.digest]
        for data in _written(output)
        for split, written in data.splits.items()
    ]
    caption = (
        "SHA-256 of every input file. Of an output it is the sum of the SHA-256 of all rows, modulo 2^256, so that it "
        "depends on the rows alone and not on their order or their files."
    )
    return Table("hashes", ["", "file or split", "SHA-256"], rows, caption)


def _written(output: Output) -> list[DataSet]:
    return [data for data in (output.sft, output.rl) if data]


def _plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
        for name, value in settings.items()
    }


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
