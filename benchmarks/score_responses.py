"""Scores 512 responses of 31k tokens on two cores: detokenise, verify, reward, as a rollout does on the host.

    python -m benchmarks.score_responses        # needs the data sets

The tokenizer is Phi-4's, built from the ranks of cl100k. A response is a thought made of solutions of Omni-MATH, drawn
at random up to its length, and a boxed answer: a third of the answers as the reference is written, a third the same
value spelled so that a parser has to tell, a third the answer to another problem. All responses end at once, so nothing
hides behind decoding; worker processes are warm, as they are from the second step of a run on.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np

from benchmarks.sft_vs_transformers import DEFAULT_DATA
from phi4r.data.records import Problem
from phi4r.evals.tasks import Task
from phi4r.rl.advantages import group_advantages
from phi4r.rl.judging import Judge, Judgement
from phi4r.rl.repetition import repetition_reward
from phi4r.rl.rewards import RewardSettings, compute_rewards
from phi4r.text.chat import Chat
from phi4r.text.phi4 import write_phi4_tokenizer
from phi4r.text.reasoning import write_reasoning_tokenizer
from phi4r.text.tokenizer import Tokenizer, load_tokenizer
from phi4r.verifiers import MathVerifier, VerifierPool

RANKS = "litellm_core_utils/tokenizers/9b5ad71b2ce5302211f9c61530b329a4922fc6a4"  # in the package litellm
NUM_CORES = 2


def phi4_reasoning_tokenizer(folder: pathlib.Path) -> Tokenizer:
    """Builds the tokenizer of Phi-4-reasoning in `folder`."""
    package = importlib.util.find_spec("litellm").submodule_search_locations[0]
    write_phi4_tokenizer(pathlib.Path(package) / RANKS, folder / "base")
    write_reasoning_tokenizer(folder / "base", folder / "reasoning")
    return load_tokenizer(folder / "reasoning")


def make_responses(
    tokenizer: Tokenizer, rows: list[dict], *, num_problems: int, group_size: int, length: int, seed: int
) -> tuple[list[Problem], list[np.ndarray]]:
    """Returns problems, and a response of `length` tokens to each of `group_size` samples of them."""
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(rows))[:num_problems]
    problems = [Problem(str(i), rows[i]["problem"], rows[i]["answer"]) for i in chosen]
    solutions = [np.array(tokenizer.encode(rows[i]["solution"] + "\n\n"), np.int32) for i in chosen]
    responses = []
    for row in range(num_problems * group_size):
        gold = problems[row // group_size].answer
        other = problems[(row // group_size + 1) % num_problems].answer
        answer = (gold, rf"\left( {gold} \right) \cdot 1", other)[row % 3]
        end = tokenizer.encode(f"</think>The answer is \\boxed{{{answer}}}.", specials=True)
        thought: list[np.ndarray] = []
        room = length - len(end) - 2
        while sum(map(len, thought)) < room:
            thought.append(solutions[random.integers(len(solutions))])
        body = np.concatenate(thought)[:room]
        responses.append(np.concatenate([[tokenizer.think_id], body, end, [tokenizer.eos_id]]).astype(np.int32))
    return problems, responses


def score(judge: Judge, problems: list[Problem], responses: list[np.ndarray], group_size: int) -> list[Judgement]:
    """Does what a rollout does with responses: text, verdicts, rewards, advantages."""
    with judge.judging(problems, group_size) as judging:
        for row, tokens in enumerate(responses):
            judging.finished(row, tokens, True)
        judgements = judging.results()
    rewards = compute_rewards(
        np.array([judgement.verdict.correct for judgement in judgements]),
        np.array([len(tokens) for tokens in responses], np.int32),
        np.ones(len(responses), bool),
        np.array([judgement.think_ok for judgement in judgements]),
        np.array([judgement.repetition for judgement in judgements], np.float32),
        judge.reward,
    )
    advantages, _ = group_advantages(rewards.total, group_size=group_size, std="population", eps=1e-6)
    jax.block_until_ready(advantages)
    return judgements


def seconds_of(work: Callable[[], object]) -> float:
    """Times one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def print_parts(judgements: list[Judgement], judge: Judge, responses: list[np.ndarray], asked: list[Problem]) -> None:
    """Prints what the parts take, one after the other in one thread, and how many responses needed a worker."""
    texts, verifier = [judgement.text for judgement in judgements], judge.task.verifier
    print(f"text        {seconds_of(lambda: [judge.tokenizer.decode(ids.tolist()) for ids in responses]):6.2f} s")
    print(f"repetition  {seconds_of(lambda: [repetition_reward(text) for text in texts]):6.2f} s")
    quick: list[object] = []
    pairs = list(zip(texts, [problem.answer for problem in asked], strict=True))
    seconds = seconds_of(lambda: quick.extend(verifier.quick(*pair) for pair in pairs))
    print(f"cheap path  {seconds:6.2f} s, {quick.count(None)} of {len(quick)} responses needed a worker")


def main() -> None:
    """Prints the seconds of each repeat, and of the parts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--problems", type=int, default=64)
    parser.add_argument("--group_size", type=int, default=8)
    parser.add_argument("--length", type=int, default=31_000, help="tokens of a response")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=pathlib.Path, default=DEFAULT_DATA)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:NUM_CORES])
    sizes = {"num_problems": args.problems, "group_size": args.group_size, "length": args.length}
    with (args.data / "omni_math_rule" / "omni_math_rule.jsonl").open() as file:
        rows = [json.loads(line) for line in file]
    with tempfile.TemporaryDirectory() as folder, VerifierPool(num_workers=NUM_CORES) as pool:
        tokenizer = phi4_reasoning_tokenizer(pathlib.Path(folder))
        problems, responses = make_responses(tokenizer, rows, **sizes, seed=0)
        task = Task("omni-math", tuple(problems), MathVerifier(thinking=True))
        judge = Judge(Chat(tokenizer), task, pool, RewardSettings())
        pool.warm_up(task.verifier)
        print(f"{len(responses)} responses of {args.length:,} tokens on {NUM_CORES} cores")
        judgements = score(judge, problems, responses, args.group_size)
        for _ in range(args.repeats):
            print(f"whole       {seconds_of(lambda: score(judge, problems, responses, args.group_size)):6.2f} s")
        print_parts(judgements, judge, responses, [problem for problem in problems for _ in range(args.group_size)])
        right = np.mean([judgement.verdict.correct for judgement in judgements])
        print(f"right {right:.3f}, verdicts {dict(pool.counts)}")


if __name__ == "__main__":
    main()
