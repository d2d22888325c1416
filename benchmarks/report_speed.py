"""Times `phi4r report` on synthetic responses: 50 runs of 1000 items, as large as an evaluation of the paper gets.

    python -m benchmarks.report_speed                        # one model, 50 runs x 1000 items, 4 kB a response
    python -m benchmarks.report_speed --models=3 --tasks aime_2025 aime_1983_2024 gpqa_diamond tsp --items=100
    python -m benchmarks.report_speed --checkpoints --models=6 --tasks maze tsp --runs=5 --items=200
    python -m benchmarks.report_speed --keep=/tmp/folders    # leaves folders and report there

Items have the groups of their benchmark (a level and a subject where the name is of none), runs differ as draws do, and
wrong answers are spread over a few values, so that all figures have something to show. The command runs in a process
of its own, its start included.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from phi4r.evals.benchmarks.table import BENCHMARKS
from phi4r.evals.puzzles.table import PUZZLES
from phi4r.evals.runner import ITEMS_FILE, PROTOCOL_FILE, RESPONSES_FILE

SUBJECTS = ("algebra", "combinatorics", "geometry", "number theory", "analysis")
NUM_LEVELS = 6
# Groups of item number i, by task: the keys are those of the benchmarks and puzzles of these names.
DOMAINS = {
    "Physics": ("Quantum Mechanics", "Astrophysics", "Condensed Matter Physics"),
    "Chemistry": ("Organic Chemistry", "Chemistry (general)"),
    "Biology": ("Molecular Biology", "Genetics"),
}
GROUPS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "aime_2025": lambda i: {},
    "aime_1983_2024": lambda i: {"year": 1983 + i % 42},
    "gpqa_diamond": lambda i: {
        "domain": (domain := list(DOMAINS)[i % 20 // 9]),
        "subdomain": DOMAINS[domain][i % len(DOMAINS[domain])],
    },
    "maze": lambda i: {"question": ("right turns", "turns", "direction of the end")[i % 3]},
    "omni_math": lambda i: {"domain": [f"Mathematics: {SUBJECTS[i % 5]}"], "difficulty": 1 + i % 17 / 2},
    "tsp": lambda i: {"level": 1 + i % 8},
}
SENTENCE = 'So $\\frac{1}{2}x + 3$ is "even", and we go on with the next case.\n'


def write_evaluation(
    folder: pathlib.Path, task: str, *, num_items: int, num_runs: int, num_characters: int, skill: float, seed: int
) -> None:
    """Writes one evaluation whose responses are right with a chance that falls with the level of the item.

    Args:
      folder: to make.
      task: its name.
      num_items: items.
      num_runs: runs of each.
      num_characters: about the length of a response.
      skill: raises all chances; 0 is about one half.
      seed: of the draws.
    """
    random = np.random.default_rng(seed)
    groups = list(map(GROUPS.get(task, _level_and_subject), range(num_items)))
    levels = np.array([_level(item, of_item) for item, of_item in enumerate(groups)])
    chances = 1 / (1 + np.exp(0.7 * (levels - 2.5) + random.normal(0, 1, num_items) - skill))
    correct = random.random((num_runs, num_items)) < chances
    tokens = np.rint(random.gamma(6, 500, correct.shape) * (1 + 0.25 * levels) * np.where(correct, 1.0, 1.4))
    folder.mkdir(parents=True)
    protocol = {
        "task": task,
        "benchmark": task,
        "title": known.title if (known := {**BENCHMARKS, **PUZZLES}.get(task)) else task,
        "groups": list(groups[0]),
        "num_items": num_items,
        "malformed_rows": 0,
        "decoding": {"temperature": 0.8, "top_p": 0.95, "top_k": 50, "max_tokens": 12000},
        "seed": 0,
        "problems": "0123456789abcdef",
    }
    (folder / PROTOCOL_FILE).write_text(json.dumps(protocol))
    with (folder / ITEMS_FILE).open("w") as file:
        for item, of_item in enumerate(groups):
            file.write(json.dumps({"id": f"item-{item}", "groups": of_item}) + "\n")
    text = "<think>" + SENTENCE * (num_characters // len(SENTENCE)) + "</think>"
    with (folder / RESPONSES_FILE).open("w") as file:
        for run in range(num_runs):
            for item in range(num_items):
                right = bool(correct[run, item])
                answer = str(item if right else item + 1 + int(random.geometric(0.4)))
                cut = not right and tokens[run, item] >= 12000
                response = {
                    "id": f"item-{item}",
                    "run": run,
                    "text": text + f"\\boxed{{{answer}}}",
                    "num_tokens": int(min(tokens[run, item], 12000)),
                    "finish_reason": "length" if cut else "stop",
                    "correct": right,
                    "score": float(right),
                    "answer": None if cut else answer,
                    "status": "no_answer" if cut else "ok",
                    "parts": {},
                }
                file.write(json.dumps(response) + "\n")


def _level_and_subject(item: int) -> dict[str, Any]:
    """Returns the groups of an item of a task that is not in `GROUPS`."""
    return {"level": 1 + item % NUM_LEVELS, "subject": SUBJECTS[item % len(SUBJECTS)]}


def _level(item: int, groups: Mapping[str, Any]) -> float:
    """Returns how hard an item is, 0 .. NUM_LEVELS - 1: by the number among its groups, if there is one."""
    numbers = [value for value in groups.values() if isinstance(value, int | float)]
    if not numbers:
        return item % NUM_LEVELS
    first = numbers[0]
    return (first - 1983) * (NUM_LEVELS - 1) / 41 if first > 1000 else min((first - 1) * 0.75, NUM_LEVELS - 1)


def main() -> None:
    """Writes the folders, times the command and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1)
    parser.add_argument("--tasks", nargs="+", default=["omni_math"], help="names of tasks")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--characters", type=int, default=4000, help="of a response")
    parser.add_argument("--checkpoints", action="store_true", help="the models are checkpoints of one run")
    parser.add_argument("--keep", type=pathlib.Path, help="a new folder for what is written")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = args.keep or pathlib.Path(temporary)
        name = "step-{}00" if args.checkpoints else "model-{}"
        folders = [root / name.format(number + 1) for number in range(args.models)]
        for number, folder in enumerate(folders):
            for place, task in enumerate(args.tasks):
                write_evaluation(
                    folder / task,
                    task,
                    num_items=args.items,
                    num_runs=args.runs,
                    num_characters=args.characters,
                    skill=0.6 * number + 0.4 * (place % 3),
                    seed=100 * number + place,
                )
        megabytes = sum(path.stat().st_size for folder in folders for path in folder.rglob("*.jsonl")) / 1e6
        command = [sys.executable, "-m", "phi4r.tools.cli", "report", *map(str, folders), f"--output={root / 'report'}"]
        command += ["--checkpoints"] * args.checkpoints
        start = time.perf_counter()
        subprocess.run(command, check=True)
        print(f"{time.perf_counter() - start:.1f} s for {megabytes:.0f} MB of responses")


if __name__ == "__main__":
    main()
