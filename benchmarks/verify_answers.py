"""What verdicts on mathematical answers cost on two cores: 512 ordinary answers, and 1,000 hostile ones.

    python -m benchmarks.verify_answers         # needs the data sets

Worker processes are warm. The ordinary answers are references of MATH-500, Omni-MATH and OlymMATH that are no whole
numbers, each spelled in eight ways, so that most need the parser; about half are right. The hostile ones are
`benchmarks.hostile_answers`, each timed from its submission to its verdict.
"""

import argparse
import os
import pathlib
import re
import time
from collections import defaultdict

from benchmarks.hostile_answers import hostile_answers, response
from benchmarks.sft_vs_transformers import DEFAULT_DATA
from phi4r.evals.benchmarks.loading import load_benchmark
from phi4r.evals.benchmarks.math_sets import MATH_500, OLYMMATH
from phi4r.evals.benchmarks.omni_math import OMNI_MATH
from phi4r.verifiers import MathVerifier, VerifierPool
from phi4r.verifiers.algebra.normal_form import normal_form

NUM_CORES = 2
SPELLINGS = ("{}", "0+{}", "{}-1", r"\frac{{1}}{{2}}+{}", "2({})", "{}+0", r"{} \cdot 1", "-({})")
REFERENCES = ("5", r"\frac{\sqrt{3}}{2}", "x^2+1", r"(-\infty,3)", r"\{1,2\}")  # of the hostile answers


def ordinary_answers(data: pathlib.Path, num: int) -> list[tuple[str, str]]:
    """Returns `num` pairs (response, reference)."""
    sets = ((MATH_500, "math500"), (OMNI_MATH, "omni_math_rule"), (OLYMMATH, "olymmath"))
    golds = {p.answer for benchmark, folder in sets for p in load_benchmark(benchmark, str(data / folder)).problems}
    hard = sorted(gold for gold in golds if not re.fullmatch(r"-?\d+", gold) and "{" in gold)
    num_golds = -(-num // len(SPELLINGS))
    spread = hard[:: len(hard) // num_golds][:num_golds]
    pairs = [(rf"</think>\boxed{{{s.format(normal_form(gold))}}}", gold) for gold in spread for s in SPELLINGS]
    return pairs[:num]


def worker_memory() -> int:
    """Returns the peak resident bytes of the largest worker that is alive (0 where the system does not tell)."""
    tasks = pathlib.Path(f"/proc/{os.getpid()}/task")
    children = [pid for path in tasks.glob("*/children") for pid in path.read_text().split()]
    peaks = [re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text()) for pid in children]
    return max((int(peak[1]) << 10 for peak in peaks if peak), default=0)


def run_ordinary(pool: VerifierPool, verifier: MathVerifier, pairs: list[tuple[str, str]], repeats: int) -> None:
    """Prints the seconds of each repeat; each meets workers that have not seen these answers."""
    responses, references = zip(*pairs, strict=True)
    start = time.perf_counter()
    num_quick = sum(verifier.quick(*pair) is not None for pair in pairs)
    print(f"ordinary: the cheap path decides {num_quick} of {len(pairs)} in {time.perf_counter() - start:.2f} s")
    for repeat in range(repeats):
        start = time.perf_counter()
        verdicts = pool.verify_all(verifier, responses, references)
        seconds = time.perf_counter() - start
        state = "first time" if repeat == 0 else "again"
        print(f"ordinary: {len(pairs)} in {seconds:.2f} s ({state}), {sum(v.correct for v in verdicts)} right")


def run_hostile(pool: VerifierPool, verifier: MathVerifier, num: int, seed: int) -> None:
    """Prints what the hostile answers cost, family by family."""
    seconds: dict[str, list[float]] = defaultdict(list)
    statuses: dict[str, int] = defaultdict(int)
    num_right = 0
    begin = time.perf_counter()
    for index, (family, answer) in enumerate(hostile_answers(num, seed=seed)):
        start = time.perf_counter()
        verdict = pool.submit(verifier, response(answer, index), REFERENCES[index % len(REFERENCES)]).result()
        seconds[family].append(time.perf_counter() - start)
        statuses[verdict.status] += 1
        num_right += verdict.correct
    print(f"hostile: {num} in {time.perf_counter() - begin:.1f} s one by one, {dict(statuses)}, {num_right} right")
    for family, times in seconds.items():
        print(f"  {family:20s} mean {1000 * sum(times) / len(times):7.1f} ms   most {1000 * max(times):7.1f} ms")
    print(f"largest worker: {worker_memory() / 1e6:.0f} MB at its peak")


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ordinary", type=int, default=512)
    parser.add_argument("--hostile", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deadline_s", type=float, default=5.0)
    parser.add_argument("--data", type=pathlib.Path, default=DEFAULT_DATA)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:NUM_CORES])
    verifier = MathVerifier(thinking=True)
    with VerifierPool(num_workers=NUM_CORES, deadline_s=args.deadline_s) as pool:
        pool.warm_up(verifier)
        run_ordinary(pool, verifier, ordinary_answers(args.data, args.ordinary), args.repeats)
        run_hostile(pool, verifier, args.hostile, args.seed)


if __name__ == "__main__":
    main()
