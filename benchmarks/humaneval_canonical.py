"""Judges the canonical solutions of HumanEval+ with all of their tests, on two cores.

    python -m benchmarks.humaneval_canonical        # needs the data sets

Each runs twice: as the source of the expected outputs and as an answer. The second round finds these outputs known, as
further responses to a problem do.
"""

import argparse
import os
import pathlib
import statistics
import time

from benchmarks.sft_vs_transformers import DEFAULT_DATA
from phi4r.errors import UserError
from phi4r.evals.benchmarks.humaneval import HUMANEVAL_PLUS
from phi4r.evals.benchmarks.loading import load_benchmark
from phi4r.verifiers.code.function_tests import FunctionTests
from phi4r.verifiers.code.sandbox import sandbox_available
from phi4r.verifiers.pool import VerifierPool

NUM_CORES = 2


def main() -> None:
    """Prints the time of each round, and which solutions did not pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=DEFAULT_DATA)
    parser.add_argument("--file", default="HumanEvalPlus.jsonl.gz", help="or HumanEvalPlus-Mini.jsonl.gz")
    args = parser.parse_args()
    if reason := sandbox_available():
        raise UserError(f"there is no sandbox on this machine: {reason}.")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:NUM_CORES])
    problems = load_benchmark(HUMANEVAL_PLUS, str(args.data / "humanevalplus" / args.file)).problems
    tests = [FunctionTests.from_reference(problem.answer) for problem in problems]
    responses = [f"</think>```python\n{test.prompt}{test.canonical_solution}\n```" for test in tests]
    counts = [len(test.inputs) for test in tests]
    print(f"{len(problems)} problems, {sum(counts)} tests, median {statistics.median(counts):g} a problem")
    with VerifierPool(num_workers=NUM_CORES) as pool:
        for name in ("first round", "second round"):
            start = time.perf_counter()
            verdicts = pool.verify_all(
                HUMANEVAL_PLUS.make_verifier(True), responses, [problem.answer for problem in problems]
            )
            seconds = time.perf_counter() - start
            passed = sum(verdict.correct for verdict in verdicts)
            print(f"{name:12s} {seconds:6.1f} s on {NUM_CORES} cores, {passed} of {len(problems)} pass")
            for problem, verdict in zip(problems, verdicts, strict=True):
                if not verdict.correct:
                    print(f"{problem.id}: {verdict.status} {verdict.parts}")


if __name__ == "__main__":
    main()
