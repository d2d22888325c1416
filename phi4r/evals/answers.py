"""Asks questions several times, and gathers the samples of each with the choice among them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from phi4r.evals.questions import Question
from phi4r.evals.voting import Selection, Selector
from phi4r.sampling.generator import Completion, SamplerGenerator

CALL_TOKENS = 2**26  # of all responses of one call of the sampler, whose results lie in memory together


@dataclasses.dataclass(frozen=True)
class Answer:
    """A question with all its samples."""

    question: Question
    completions: tuple[Completion, ...]
    selection: Selection

    def row(self) -> dict[str, Any]:
        """Returns JSON values: the question, its samples, the outcome of their vote and the number of the best."""
        selection = self.selection
        row = {name: value for name, value in dataclasses.asdict(self.question).items() if value is not None}
        row["samples"] = [
            {**dataclasses.asdict(completion), "answer": answer}
            for completion, answer in zip(self.completions, selection.answers, strict=True)
        ]
        row["majority"] = None if selection.vote is None else dataclasses.asdict(selection.vote)
        if selection.verdicts is not None:
            for sample, verdict in zip(row["samples"], selection.verdicts, strict=True):
                sample |= {"correct": verdict.correct, "score": verdict.score, "status": verdict.status}
            row["best"] = selection.best
        return row

    def summary(self) -> str:
        """Returns lines: the outcome of the vote where there are several samples, and of the verdicts."""
        selection, count = self.selection, len(self.completions)
        vote = selection.vote
        lines = []
        if count > 1 and vote is None:
            lines.append("majority: none, for no sample has an answer")
        elif count > 1:
            lines.append(f"majority: {vote.answer} ({vote.votes} of {count}{', tied' if vote.tied else ''})")
        if selection.verdicts is not None:
            verdict = selection.verdicts[selection.best]
            right = sum(verdict.correct for verdict in selection.verdicts)
            lines.append(f"best: sample {selection.best + 1}, score {verdict.score:g} ({right} of {count} right)")
        return "".join(f"{line}\n" for line in lines)


# Called for every sample that is finished: (row, the sample, and the answer if it was the last one of its question).
# Row i * num_samples + g is sample g of question i.
OnSample = Callable[[int, Completion, Answer | None], None]


def answer_questions(
    generator: SamplerGenerator,
    questions: Sequence[Question],
    selector: Selector,
    *,
    num_samples: int,
    seed: int,
    on_tokens: Callable[[int, list[int]], None],
    on_sample: OnSample,
) -> None:
    """Asks all questions, in as few calls of the sampler as memory allows.

    Args:
      generator: answers them.
      questions: what is asked; what is sampled for one depends on its number and the seed, not on the others.
      selector: chooses among the samples of each.
      num_samples: of each.
      seed: of all sampling.
      on_tokens: called with (row, the next tokens) after every burst of the sampler.
      on_sample: called when a sample is finished.
    """
    size = max(CALL_TOKENS // (generator.sampler.programs.longest * num_samples), 1)
    for start in range(0, len(questions), size):
        asked = questions[start : start + size]
        _Call(asked, selector, num_samples, start * num_samples, on_tokens, on_sample).ask(generator, seed)


class _Call:
    """One call of the sampler, with the samples that wait for others of their question."""

    def __init__(self, questions, selector, num_samples, first_row, on_tokens, on_sample):
        self._questions, self._selector, self._num_samples = questions, selector, num_samples
        self._first_row, self._on_tokens, self._on_sample = first_row, on_tokens, on_sample
        self._samples: list[dict[int, Completion]] = [{} for _ in questions]

    def ask(self, generator: SamplerGenerator, seed: int) -> None:
        generator(
            [question.conversation for question in self._questions],
            num_samples=self._num_samples,
            seed=seed,
            prompt_ids=[question.number for question in self._questions],
            on_tokens=lambda row, tokens: self._on_tokens(self._first_row + row, tokens),
            on_completion=self._finish,
        )

    def _finish(self, row: int, completion: Completion) -> None:
        index, sample = divmod(row, self._num_samples)
        question, samples = self._questions[index], self._samples[index]
        samples[sample] = completion
        answer = None
        if len(samples) == self._num_samples:
            completions = tuple(samples[i] for i in range(self._num_samples))
            selection = self._selector.select([c.text for c in completions], question.reference)
            answer = Answer(question, completions, selection)
        self._on_sample(self._first_row + row, completion, answer)
