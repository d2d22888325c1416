"""What a verifier says about a response, and what counts as a verifier."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

Status = Literal["ok", "no_answer", "timeout", "error", "unjudged"]


@dataclass(frozen=True)
class Verdict:
    """The judgement of one response.

    Attributes:
      correct: whether the answer is right. Never true unless `status` is "ok".
      score: the same as a number; a verifier that gives partial credit may use all of [0, 1].
      answer: the answer found in the response, as it was written; None where there is none.
      status: "ok" (judged), "no_answer" (nothing to judge: wrong), "timeout" (the judge was stopped at its
        deadline), "error" (the judge failed) or "unjudged" (no rule can tell; a language model may). The last three
        say nothing about the response, so they are counted and never mistaken for a wrong answer in silence.
      parts: what else was measured of the answer, by name: the instructions that were followed, the constraints that
        a slot meets, the titles that satisfy a request.
    """

    correct: bool
    score: float
    answer: str | None
    status: Status
    parts: dict[str, float] = field(default_factory=dict, hash=False)


def judged(
    answer: str, correct: bool, *, score: float | None = None, parts: Mapping[str, float] | None = None
) -> Verdict:
    """Returns the verdict on an answer that was found and judged; its score is 1 or 0 unless one is given."""
    return Verdict(correct, float(correct) if score is None else score, answer, "ok", dict(parts or {}))


def unanswered() -> Verdict:
    """Returns the verdict on a response without an answer: wrong."""
    return Verdict(False, 0.0, None, "no_answer")


def failed(status: Literal["timeout", "error"], answer: str | None = None) -> Verdict:
    """Returns the verdict of a judge that was stopped or broke down."""
    return Verdict(False, 0.0, answer, status)


class Verifier(Protocol):
    """Judges a response against a reference answer; a frozen dataclass at the top level of an importable module.

    The fields are settings that JSON can carry (numbers, strings, booleans, None, tuples and nested dataclasses of
    these): that is how a `VerifierPool` rebuilds the verifier in its workers. A verifier never raises.
    """

    def __call__(self, response: str, reference: str) -> Verdict:
        """Returns the verdict on `response`, the decoded text of the assistant's turn."""
        ...


@runtime_checkable
class TwoSpeedVerifier(Verifier, Protocol):
    """A verifier with a cheap path that a pool takes in its own process, before it asks a worker."""

    def quick(self, response: str, reference: str) -> Verdict | None:
        """Returns the verdict where it takes bounded time (well under a millisecond), else None."""
        ...

    def warm_up(self) -> None:
        """Pays for imports and tables; a worker does this once, outside the deadline of any response."""
        ...


@runtime_checkable
class SelfLimitedVerifier(Verifier, Protocol):
    """A verifier that is no danger to its caller: what takes long or is hostile it runs in a sandbox of its own.

    A pool calls it in one of its threads instead of a worker, whose limits (no files, little memory) a sandbox could
    not be opened under.
    """

    limits_itself: Literal[True]
