"""Times `phi4r report` on synthetic responses: 50 runs of 1000 items, as large as an evaluation of the paper gets.

    python -m benchmarks.report_speed                        # one model, 50 runs x 1000 items, 4 kB a response
    python -m benchmarks.report_speed --models=3 --tasks aime_2025 maze tsp --items=100
    python -m benchmarks.report_speed --keep=/tmp/folders    # leaves folders and report there

Items have a level and a subject, runs differ as draws do, and wrong answers are spread over a few values, so that all
figures have something to show. The command runs in a process of its own, its start included.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from phi4r.evals.runner import ITEMS_FILE, PROTOCOL_FILE, RESPONSES_FILE

SUBJECTS = ("algebra", "combinatorics", "geometry", "number theory", "analysis")
NUM_LEVELS = 6
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
    levels = np.arange(num_items) % NUM_LEVELS
    chances = 1 / (1 + np.exp(0.7 * (levels - 2.5) + random.normal(0, 1, num_items) - skill))
    correct = random.random((num_runs, num_items)) < chances
    tokens = np.rint(random.gamma(6, 500, correct.shape) * (1 + 0.25 * levels) * np.where(correct, 1.0, 1.4))
    folder.mkdir(parents=True)
    protocol = {
        "task": task,
        "benchmark": task,
        "title": task.replace("_", " "),
        "groups": ["level", "subject"],
        "num_items": num_items,
        "malformed_rows": 0,
        "decoding": {"temperature": 0.8, "top_p": 0.95, "top_k": 50, "max_tokens": 12000},
        "seed": 0,
        "problems": "0123456789abcdef",
    }
    (folder / PROTOCOL_FILE).write_text(json.dumps(protocol))
    with (folder / ITEMS_FILE).open("w") as file:
        for item, level in enumerate(levels):
            groups = {"level": int(level) + 1, "subject": SUBJECTS[item % len(SUBJECTS)]}
            file.write(json.dumps({"id": f"item-{item}", "groups": groups}) + "\n")
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


def main() -> None:
    """Writes the folders, times the command and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1)
    parser.add_argument("--tasks", nargs="+", default=["aime_2025"], help="names of tasks")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--characters", type=int, default=4000, help="of a response")
    parser.add_argument("--keep", type=pathlib.Path, help="a new folder for what is written")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = args.keep or pathlib.Path(temporary)
        folders = [root / f"model-{number + 1}" for number in range(args.models)]
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
        start = time.perf_counter()
        subprocess.run(command, check=True)
        print(f"{time.perf_counter() - start:.1f} s for {megabytes:.0f} MB of responses")


if __name__ == "__main__":
    main()
