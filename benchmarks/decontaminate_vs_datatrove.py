"""Decontamination against datatrove's n-gram filter: the same texts, the same protected texts, one core each, in turns.

    python3 -m venv datatrove-venv && datatrove-venv/bin/pip install datatrove spacy regex "xxhash<4"
    python -m benchmarks.decontaminate_vs_datatrove --python=datatrove-venv/bin/python     # needs the data sets

Protected are GSM8K, MATH-500, HumanEval+ and every sixth row of Omni-MATH, with their solutions: a million 13-grams.
Looked at are the other rows of Omni-MATH, OlymMATH, IFEval and AIME with theirs, some of which have a protected text
planted into them, and, apart, the prompts of the same rows, which are short. Ours is the whole algorithm (13-grams,
then 7-gram ratios, then a comparison of words), bare and in its stage; datatrove's filter looks for 13-grams alone. It
is shown with its own tokenizer (spaCy's) and with one that splits at blanks. It would replace all numbers by 0, which
is switched off, since ours keeps them. Figures are megabytes of UTF-8 in a second of processor time, since other
programs use the machine too; loading and indexing are not counted.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import tempfile
import time
from collections.abc import Callable

from benchmarks.peers import Peer
from benchmarks.sft_vs_transformers import DEFAULT_DATA
from phi4r.curation.item import Item
from phi4r.curation.overlap.index_building import build_index
from phi4r.curation.overlap.ngram_index import NgramIndex
from phi4r.curation.overlap.overlap_outcomes import overlap_outcomes
from phi4r.curation.overlap.overlaps import Thresholds, find_overlaps
from phi4r.curation.overlap.protected_texts import ProtectedText, row_texts
from phi4r.data.tables import read_rows

SCRIPT = pathlib.Path(__file__).with_name("peer_datatrove.py")
PROTECTED = {
    "gsm8k/train.jsonl": ("question", "answer"),
    "gsm8k/test.jsonl": ("question", "answer"),
    "math500": ("problem", "solution"),
    "humanevalplus/HumanEvalPlus.jsonl.gz": ("prompt", "canonical_solution", "test"),
}
DIVIDED = {"omni_math_rule": ("problem", "solution")}
LOOKED_AT = {
    "olymmath": ("problem",),
    "ifeval": ("prompt",),
    "aime": ("problem", "reference_solution"),
}
LONG, SHORT = 13, 7
THRESHOLDS = Thresholds(contaminated=0.5, partial=0.1)
PLANTED_EVERY = 100  # texts
PASSES = 10  # of ours in a turn, which is short beside datatrove's


def rows_of(data: pathlib.Path, places: dict[str, tuple[str, ...]]) -> list[list[str]]:
    """Returns the named fields of each row."""
    return [
        [text.text for text in row_texts(row, fields, benchmark="", where=where)]
        for place, fields in places.items()
        for where, row in read_rows(str(data / place))
    ]


def with_planted(texts: list[str], protected: list[str], rng: random.Random) -> list[str]:
    """Returns the texts, some of them with a protected one after them."""
    plants = [text for text in protected if len(text) > 200]
    return [
        f"{text}\n\n{rng.choice(plants)}" if number % PLANTED_EVERY == 0 else text for number, text in enumerate(texts)
    ]


def our_turns(index: NgramIndex, texts: list[str]) -> dict[str, Callable[[], list[int]]]:
    """Returns what looks at the texts, once bare and once as the stage does; each returns the condemned ones."""
    items = [Item(str(number), text) for number, text in enumerate(texts)]

    def bare() -> list[int]:
        overlaps = find_overlaps(index, texts, THRESHOLDS)
        return [number for number, overlap in enumerate(overlaps) if overlap.rule == f"{LONG}-gram"]

    def stage() -> list[int]:
        named = {"stage": "decontamination", "fields": ("prompt",), "reason": "contaminated"}
        outcomes = overlap_outcomes(items, index, thresholds=THRESHOLDS, drop_partial=False, **named)
        return [number for number, outcome in enumerate(outcomes) if outcome.reason.endswith(f"{LONG}-gram")]

    return {"ours": bare, "ours, the stage": stage}


def compare(
    title: str, texts: list[str], protected: list[str], args: argparse.Namespace, scratch: pathlib.Path
) -> None:
    """Prints the table of one kind of texts."""
    files = {"protected": scratch / "protected.json", "texts": scratch / "texts.json"}
    files["protected"].write_text(json.dumps(protected))
    files["texts"].write_text(json.dumps(texts))
    settings = {name: str(path) for name, path in files.items()} | {"size": LONG}
    index = build_index(
        (ProtectedText("protected", str(number), "text", text) for number, text in enumerate(protected)),
        long_size=LONG,
        short_size=SHORT,
    )
    turns = our_turns(index, texts)
    seconds: dict[str, list[float]] = {}
    with (
        Peer(args.python, SCRIPT, settings | {"tokenizer": "own"}) as own,
        Peer(args.python, SCRIPT, settings | {"tokenizer": "blanks"}) as blanks,
    ):
        peers = {"datatrove": own, "datatrove, blanks": blanks}
        found: dict[str, list[int]] = {}
        for repeat in range(args.repeats + 1):  # the first turn warms up
            for name, turn in turns.items():
                started = time.process_time()
                for _ in range(PASSES):
                    found[name] = turn()
                if repeat:
                    seconds.setdefault(name, []).append((time.process_time() - started) / PASSES)
            for name, peer in peers.items():
                answer = peer()
                found[name] = answer["found"]
                if repeat:
                    seconds.setdefault(name, []).append(answer["seconds"])
    num_bytes = sum(len(text.encode()) for text in texts)
    print(f"{title}: {len(texts)} texts, {num_bytes / 1e6:.1f} MB, against {len(index.long)} {LONG}-grams")
    reference = statistics.median(seconds["datatrove"])
    print(f"{'':20s}{'MB/s':>8s}{'worst':>8s}{'best':>8s}{'relative':>10s}{'contaminated':>14s}")
    for name, runs in seconds.items():
        speeds = [num_bytes / 1e6 / run for run in (statistics.median(runs), max(runs), min(runs))]
        relative = reference / statistics.median(runs)
        print(f"{name:20s}" + "".join(f"{speed:8.2f}" for speed in speeds) + f"{relative:9.1f}x{len(found[name]):14d}")
    ours, theirs = set(found["ours"]), set(found["datatrove"])
    print(
        f"contaminated: {len(ours & theirs)} by both, {len(ours - theirs)} ours only, {len(theirs - ours)} theirs only"
    )


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--python", type=pathlib.Path, required=True, help="interpreter that has datatrove")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=pathlib.Path, default=DEFAULT_DATA)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])  # the peers inherit it
    rng = random.Random(args.seed)
    divided = rows_of(args.data, DIVIDED)
    protected = ["\n\n".join(row) for row in [*rows_of(args.data, PROTECTED), *divided[::6]]]
    rows = [row for number, row in enumerate(divided) if number % 6] + rows_of(args.data, LOOKED_AT)
    with tempfile.TemporaryDirectory() as scratch:
        for title, texts in (
            ("prompts and solutions", ["\n\n".join(row) for row in rows]),
            ("prompts", [row[0] for row in rows]),
        ):
            compare(title, with_planted(texts, protected, rng), protected, args, pathlib.Path(scratch))


if __name__ == "__main__":
    main()
