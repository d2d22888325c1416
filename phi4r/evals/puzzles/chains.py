"""Arithmetic chains modulo 10: the procedural task of the quickstart, with a solver that writes the thought.

A problem is a start digit and k operations, each applied to the running value modulo 10:

    prompt      chain 7 +3 *9 -4 =
    thought      +3 0 *9 0 -4 6          every operation and the value after it
    solution    \\boxed{6}

Every operation (+1..+9, -1..-9, *3, *7, *9) is a bijection of the digits, so all ten answers are equally likely
whatever the operations are: a guess scores 10%, and no shortcut skips the middle of a chain.

Which split a problem belongs to is a pure function of its prompt. Train, dev and test sets are therefore disjoint
whatever their seeds, sizes and lengths.
"""

import hashlib
import random
from typing import Literal, get_args

from phi4r.data.records import Problem, Trace
from phi4r.errors import UserError

Split = Literal["train", "dev", "test"]

OPERATIONS = (*(f"+{i}" for i in range(1, 10)), *(f"-{i}" for i in range(1, 10)), "*3", "*7", "*9")

_DEV_PERCENT = 10
_TEST_PERCENT = 10


def split_of(prompt: str) -> Split:
    """Returns the split that `prompt` belongs to: 10% dev, 10% test, the rest train, by a hash of the text."""
    bucket = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") % 100
    if bucket < _DEV_PERCENT:
        return "dev"
    return "test" if bucket < _DEV_PERCENT + _TEST_PERCENT else "train"


def chain_problems(num: int, *, seed: int, min_ops: int, max_ops: int, split: Split = "train") -> list[Problem]:
    """Draws distinct chains of one split; the same arguments give the same list.

    The number of operations is drawn uniformly from `min_ops..max_ops`. Where the short chains run out (there are
    only 4,410 of two operations) the longer ones take their place.

    Args:
      num: how many problems.
      seed: of the draw.
      min_ops: fewest operations in a chain, at least 1.
      max_ops: most operations in a chain.
      split: the split to draw from.

    Returns:
      `num` problems in random order; `meta["num_ops"]` is the length of the chain.

    Raises:
      UserError: for an unknown split, an empty range, or more problems than half of those that exist.
    """
    _check_request(num, min_ops, max_ops, split)
    rng = random.Random(f"chains/{split}/{min_ops}/{max_ops}/{seed}")
    problems: dict[str, Problem] = {}
    while len(problems) < num:
        num_ops = rng.randint(min_ops, max_ops)
        operations = rng.choices(OPERATIONS, k=num_ops)
        prompt = " ".join(["chain", str(rng.randrange(10)), *operations, "="])
        if prompt not in problems and split_of(prompt) == split:
            problems[prompt] = _problem(prompt)
    return list(problems.values())


def solve(problem: Problem) -> Trace:
    """Writes the worked solution of a chain.

    Raises:
      UserError: if the prompt of `problem` is not a chain.
    """
    start, operations = _parse(problem.prompt)
    values = _values(start, operations)
    thought = "".join(f" {operation} {value}" for operation, value in zip(operations, values, strict=True))
    answer = str(values[-1])
    return Trace(
        id=problem.id,
        prompt=problem.prompt,
        thought=thought,
        solution=f"\\boxed{{{answer}}}",
        answer=answer,
        meta=dict(problem.meta),
    )


def _check_request(num: int, min_ops: int, max_ops: int, split: str) -> None:
    if split not in get_args(Split):
        raise UserError(f"chains have no split {split!r}; take one of {', '.join(get_args(Split))}.")
    if not 1 <= min_ops <= max_ops:
        raise UserError(f"chains need 1 <= min_ops <= max_ops, not min_ops={min_ops}, max_ops={max_ops}.")
    percent = {"dev": _DEV_PERCENT, "test": _TEST_PERCENT, "train": 100 - _DEV_PERCENT - _TEST_PERCENT}[split]
    num_existing = sum(10 * len(OPERATIONS) ** k for k in range(min_ops, max_ops + 1)) * percent // 100
    if not 0 <= num <= num_existing // 2:
        raise UserError(
            f"cannot draw {num} distinct chains of {min_ops}..{max_ops} operations from split {split!r}: "
            f"ask for at most {num_existing // 2}, or for longer chains."
        )


def _problem(prompt: str) -> Problem:
    start, operations = _parse(prompt)
    return Problem(
        id="chain-" + hashlib.sha256(prompt.encode()).hexdigest()[:16],
        prompt=prompt,
        answer=str(_values(start, operations)[-1]),
        meta={"num_ops": len(operations)},
    )


def _parse(prompt: str) -> tuple[int, list[str]]:
    words = prompt.split()
    well_formed = len(words) >= 4 and (words[0], words[-1]) == ("chain", "=") and words[1] in set("0123456789")
    if not well_formed or any(word not in OPERATIONS for word in words[2:-1]):
        raise UserError(f"{prompt!r} is not an arithmetic chain; one looks like 'chain 7 +3 *9 -4 ='.")
    return int(words[1]), words[2:-1]


def _values(start: int, operations: list[str]) -> list[int]:
    """Returns the running value after every operation, modulo 10."""
    values, value = [], start
    for operation in operations:
        digit = int(operation[1:])
        value = {"+": value + digit, "-": value - digit, "*": value * digit}[operation[0]] % 10
        values.append(value)
    return values
