"""What stages that ask models have in common: names that are checked, and items that pass untouched."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from phi4r.curation.asking.asking import Asker, check_names
from phi4r.curation.item import Item
from phi4r.curation.stage import Outcome
from phi4r.curation.teaching.passing import decide_where
from phi4r.verifiers.pool import VerifierPool

S = TypeVar("S", bound=Any)


class AskingStage(abc.ABC, Generic[S]):
    """An ItemStage that asks generators.

    Attributes:
      name: of the stage.
      batch_size: of the settings.
    """

    name: str

    def __init__(self, settings: S, askers: Mapping[str, Asker], *, pool: VerifierPool | None = None):
        """Asks nothing and opens nothing yet.

        Args:
          settings: of the stage.
          askers: by the names of generators.
          pool: compares answers; None for one of its own, which starts no process before it needs one.

        Raises:
          UserError: for a generator that there is not.
        """
        self.batch_size = settings.batch_size
        self._settings, self._askers = settings, askers
        check_names(askers, self.asked(), stage=self.name)
        self._pool = VerifierPool() if pool is None else pool

    @abc.abstractmethod
    def asked(self) -> Sequence[str]:
        """Returns the names of the generators that the settings want asked."""

    @abc.abstractmethod
    def decide(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns an outcome for each item that `applies` says is one of this stage."""

    def applies(self, item: Item) -> bool:
        """Whether the stage looks at an item; the others go on as they are."""
        return item.domain not in self._settings.skip_domains

    def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns an outcome for each item."""
        return decide_where(self.applies, items, self.decide)
