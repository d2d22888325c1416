"""What a language model is asked about a response, and how its reply is read.

A judge sees the problem and the solution after the thought, never the thought. What it says is reported apart from
what rules have found.
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from phi4r.data.records import Problem
from phi4r.evals.responses import Response
from phi4r.text.template import Message
from phi4r.verifiers.answers import END_OF_THOUGHT

_EQUIVALENCE = """You are given a problem, its reference answer, and the solution of a student. Decide whether the \
final answer of the student is the same as the reference answer: the same value or statement, whatever its form. Do \
not solve the problem yourself, and do not judge the way to the answer.

## Problem
{prompt}

## Reference answer
{reference}

## Student's solution
{solution}

Explain in a sentence or two what the student's final answer is and how it compares. End with one line that is either
Equivalent: yes
or
Equivalent: no"""

_PAIRWISE = """Two assistants, A and B, have answered the request of a user. Decide whose answer serves the user \
better. First write in a few sentences what a good answer needs. Then compare the two: correctness first, then \
whether all that was asked for is there, relevance, clarity, and brevity where nothing is lost by it. The order in \
which the answers are shown must not matter.

## Request
{prompt}

## Answer of assistant A
{first}

## Answer of assistant B
{second}

End with exactly one of these lines:
Verdict: [[A>>B]] (A is much better)
Verdict: [[A>B]] (A is a little better)
Verdict: [[A=B]] (about equal)
Verdict: [[B>A]] (B is a little better)
Verdict: [[B>>A]] (B is much better)"""

_EXTRACTION = """Below are a task and a response to it. The response contains a final answer, but perhaps not in the \
form that the task asks for. Write that final answer, exactly as the response gives it, in the form that the task \
asks for, and nothing else. Do not solve the task, and do not correct the answer. If the response gives no final \
answer, write NONE.

## Task
{prompt}

## Response
{solution}"""

_EQUIVALENT = re.compile(r"equivalent:\W*(yes|no)\b", re.IGNORECASE)
_VERDICT = re.compile(r"\[\[(A>>B|A>B|A=B|B>A|B>>A)\]\]")

# Points for A and how often the game counts: a clear verdict counts three times.
_GAMES: Mapping[str, tuple[float, int]] = {
    "A>>B": (1.0, 3),
    "A>B": (1.0, 1),
    "A=B": (0.5, 1),
    "B>A": (0.0, 1),
    "B>>A": (0.0, 3),
}
_NUM_RESAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What a judge said about a response.

    Attributes:
      id: of the problem.
      run: of the response.
      response: hash of the text that was judged (`response_hash`).
      game: 0, or 1 for the second game of a pair, with the sides swapped.
      text: the reply.
      verdict: what was read from it; None where it could not be read.
    """

    id: str
    run: int
    response: str
    game: int
    text: str
    verdict: str | None


@dataclasses.dataclass(frozen=True)
class Judge:
    """One way to judge.

    Attributes:
      num_games: requests for each response.
      wants: whether a response is judged at all.
      ask: (problem, response, game) -> the conversation.
      read: a reply -> the verdict, or None.
      figures: (all responses, the judgements) -> what is reported.
    """

    num_games: int
    wants: Callable[[Response], bool]
    ask: Callable[[Problem, Response, int], list[Message]]
    read: Callable[[str], str | None]
    figures: Callable[[Sequence[Response], Sequence[Judgement]], dict[str, float]]


def solution_of(response: Response) -> str:
    """Returns what follows the thought."""
    return response.text.rpartition(END_OF_THOUGHT)[2].strip()


def response_hash(response: Response) -> str:
    """Returns what tells the answer to a problem from another one in its place, asked for again."""
    return hashlib.sha256(response.text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def _answered(response: Response) -> bool:
    return response.finish_reason == "stop" and bool(solution_of(response))


def _ask_equivalence(problem: Problem, response: Response, game: int) -> list[Message]:
    return _user(_EQUIVALENCE.format(prompt=problem.prompt, reference=problem.answer, solution=solution_of(response)))


def _read_equivalence(reply: str) -> str | None:
    found = _EQUIVALENT.findall(reply)
    return found[-1].lower() if found else None


def _equivalence_figures(responses: Sequence[Response], judgements: Sequence[Judgement]) -> dict[str, float]:
    right = sum(response.correct for response in responses)
    found = sum(judgement.verdict == "yes" for judgement in judgements)
    return {
        "accuracy": (right + found) / len(responses),
        "accuracy_by_rules": right / len(responses),
        "judged": float(len(judgements)),
        "found_right": float(found),
        "unreadable": float(sum(judgement.verdict is None for judgement in judgements)),
    }


def _ask_pairwise(problem: Problem, response: Response, game: int) -> list[Message]:
    sides = [problem.answer, solution_of(response)]  # the baseline is A in the first game
    if game == 1:
        sides.reverse()
    return _user(_PAIRWISE.format(prompt=problem.prompt, first=sides[0], second=sides[1]))


def _read_pairwise(reply: str) -> str | None:
    found = _VERDICT.findall(reply)
    return found[-1] if found else None


def _pairwise_figures(responses: Sequence[Response], judgements: Sequence[Judgement]) -> dict[str, float]:
    """Returns the share of games won against the baseline, with its 90% bootstrap interval over problems.

    A response without a solution loses both its games.
    """
    points: dict[str, list[tuple[float, int]]] = {}
    for judgement in judgements:
        if judgement.verdict is not None:
            won, weight = _GAMES[judgement.verdict]
            points.setdefault(judgement.id, []).append((1.0 - won if judgement.game == 0 else won, weight))
    for response in responses:
        if not _answered(response):
            points.setdefault(response.id, []).extend([(0.0, 1)] * PAIRWISE.num_games)
    sums = np.array([[sum(p * w for p, w in games), sum(w for _, w in games)] for games in points.values()])
    if not sums.size:
        return {"judged": float(len(judgements)), "unreadable": float(len(judgements))}
    draws = np.random.default_rng(0).multinomial(len(sums), [1 / len(sums)] * len(sums), size=_NUM_RESAMPLES) @ sums
    low, high = np.quantile(draws[:, 0] / draws[:, 1], [0.05, 0.95])
    total = sums.sum(axis=0)
    return {
        "win_rate": float(total[0] / total[1]),
        "win_rate_low": float(low),
        "win_rate_high": float(high),
        "judged": float(len(judgements)),
        "unreadable": float(sum(judgement.verdict is None for judgement in judgements)),
    }


def ask_extraction(problem: Problem, response: Response) -> list[Message]:
    """Returns the request for the final answer of a response in which the rules found none."""
    return _user(_EXTRACTION.format(prompt=problem.prompt, solution=solution_of(response)))


EQUIVALENCE = Judge(
    num_games=1,
    wants=lambda response: _answered(response) and not response.correct,
    ask=_ask_equivalence,
    read=_read_equivalence,
    figures=_equivalence_figures,
)
PAIRWISE = Judge(num_games=2, wants=_answered, ask=_ask_pairwise, read=_read_pairwise, figures=_pairwise_figures)

JUDGES: Mapping[str, Judge] = {"equivalence": EQUIVALENCE, "pairwise": PAIRWISE}
