"""Rollouts written by hand, as records on disk."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from phi4r.data.sources import write_arrayrecord

Record = dict[str, Any]


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """Returns a function: (problem, sample, text, **changes) -> record whose tokens are the words of its text."""

    def make(problem: str, sample: int, text: str = "<think> so </think> 7", **changes) -> Record:
        words = text.split(" ")
        lengths = [len(word) + (i > 0) for i, word in enumerate(words)]
        tokens = len(words)
        return {
            "problem": problem,
            "sample": sample,
            "prompt": f"What is {problem}?",
            "reference": "7",
            "text": text,
            "tokens": list(range(tokens)),
            "token_lengths": lengths,
            "logprobs": [-0.25] * tokens,
            "entropies": [0.5] * tokens,
            "answer": "7",
            "status": "ok",
            "correct": sample % 2 == 0,
            "finish_reason": "stop",
            "reward": 0.5 if sample % 2 == 0 else -0.5,
            "reward_accuracy": 1.0 if sample % 2 == 0 else -0.5,
            "reward_repetition": 0.0,
            "advantage": 1.0 if sample % 2 == 0 else -1.0,
            "sample_s": 2.0,
            "judge_s": 1.0,
            **changes,
        }

    return make


@pytest.fixture(scope="session")
def write_run() -> Callable[..., pathlib.Path]:
    """Returns a function: (workdir, {step: records}, metrics, config) -> workdir with these in their files."""

    def write(workdir, steps, *, metrics=(), config=None) -> pathlib.Path:
        for step, records in steps.items():
            write_arrayrecord(workdir / "rollouts" / f"{step:06d}.arrayrecord", records)
        if metrics:
            (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
        if config is not None:
            (workdir / "config.json").write_text(json.dumps(config))
        return workdir

    return write
