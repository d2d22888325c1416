"""Evaluations written by hand, as folders on disk."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

# Items with the verdicts of their runs: a hand-sized benchmark.
#   accuracy 3/8; runs 2/4 and 1/4, whose sample sd is (1/4) / sqrt(2) = 17.68%
VERDICTS = {"a": [1, 1], "b": [1, 0], "c": [0, 0], "d": [0, 0]}
GROUPS = {
    "a": {"year": 2023, "field": ["algebra"]},
    "b": {"year": 2023, "field": ["algebra"]},
    "c": {"year": 2024, "field": ["sets", "algebra"]},
    "d": {"year": 2024, "field": ["sets", "algebra"]},
}


def response(item: str, run: int, correct: bool, **changes: Any) -> dict[str, Any]:
    """A line of responses.jsonl: right answers say 1, wrong ones the run with a minus."""
    return {
        "id": item,
        "run": run,
        "text": f"<think>about {item}</think>\\boxed{{1}}",
        "num_tokens": 100 if correct else 200,
        "finish_reason": "stop",
        "correct": correct,
        "score": 1.0 if correct else 0.0,
        "answer": "1" if correct else f"-{run}",
        "status": "ok",
        "parts": {},
        **changes,
    }


def write_evaluation(
    folder: pathlib.Path,
    task: str = "aime_2025",
    verdicts: Mapping[str, Sequence[int]] = VERDICTS,
    *,
    groups: Mapping[str, Mapping[str, Any]] | None = GROUPS,
    changes: Mapping[tuple[str, int], Mapping[str, Any]] = {},
    results: Mapping[str, Any] | None = None,
    **protocol: Any,
) -> pathlib.Path:
    """Writes DIR/TASK and returns DIR; `changes` are of single responses, by item and run."""
    place = folder / task
    place.mkdir(parents=True)
    lines = [
        response(item, run, bool(correct), **changes.get((item, run), {}))
        for item, runs in verdicts.items()
        for run, correct in enumerate(runs)
    ]
    (place / "responses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    about = {
        "task": task,
        "benchmark": task,
        "title": task.upper(),
        "groups": list(next(iter((groups or {}).values()), {})),
        "num_items": len(verdicts),
        "malformed_rows": 0,
        "decoding": {"temperature": 0.8, "top_p": 0.95, "top_k": 50, "max_tokens": 1000},
        "seed": 0,
        "problems": "p0",
        "provenance": {"chat_template": "t0", "weights": folder.name},
    }
    (place / "protocol.json").write_text(json.dumps({**about, **protocol}))
    if groups is not None:
        items = ({"id": item, "groups": groups.get(item, {})} for item in verdicts)
        (place / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    if results is not None:
        (place / "results.json").write_text(json.dumps(results))
    return folder
