"""Solutions of generated tasks: their solvers are the teachers, and no model is asked.

An item that a source "task:SPEC" brought gets the thought and the solution of the task's solver. Its answer stays the
reference that the task's verifier reads.
"""

import dataclasses
from collections.abc import Sequence

from phi4r.curation.intake.seeds import NAME as SEEDS
from phi4r.curation.item import Item
from phi4r.curation.stage import Outcome, failed, kept
from phi4r.curation.teaching.passing import decide_where
from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.specs import solver_of

NAME = "solutions"


@dataclasses.dataclass(frozen=True)
class SolutionsSettings:
    """Which items are solved. None of it is in the paper.

    Attributes:
      sources: names of sources whose items are all solved, and those that cannot be are quarantined; empty for every
        item of a task that has a solver. Other items pass as they are.
      batch_size: items at a time.
    """

    sources: tuple[str, ...] = ()
    batch_size: int = 256

    def __post_init__(self):
        if self.batch_size < 1:
            raise UserError(f"solutions.batch_size={self.batch_size} must be at least 1.")


class SolutionsStage:
    """Writes thoughts and solutions."""

    name = NAME

    def __init__(self, settings: SolutionsSettings):
        """Takes what is to be solved."""
        self.batch_size = settings.batch_size
        self._sources = settings.sources

    def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns the items, solved where a solver is asked."""
        return decide_where(self._applies, items, lambda chosen: [_solved(item) for item in chosen])

    def _applies(self, item: Item) -> bool:
        return item.source in self._sources if self._sources else _has_solver(item)


def _solved(item: Item) -> Outcome:
    if not _has_solver(item):
        return failed(item, "no task with a solver")
    try:
        trace = solver_of(_task_of(item))(Problem(item.id, item.prompt, item.answer, item.meta))
    except UserError:
        return failed(item, "the solver cannot read it")
    return kept(dataclasses.replace(item, thought=trace.thought, solution=trace.solution))


def _has_solver(item: Item) -> bool:
    try:
        solver_of(_task_of(item))
    except UserError:
        return False
    return True


def _task_of(item: Item) -> str:
    """Returns the spec of the task that brought the item; empty for an item of a file."""
    return item.meta.get(SEEDS, {}).get("task", "")
