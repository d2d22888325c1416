"""Clusters: domain x source x quality (x topic), the units that a mixture gives weights to (section 2.2 of the paper).

    math/gsm8k/high             domain/source/quality
    math/gsm8k/high/03-area     and a topic, where topics are asked for
    safety                      whatever its source and quality: safety data has a weight of its own

A cluster is read off an item alone: labels and rules decide about domain and quality, and the topic is the nearest of
centres that were fitted once (`phi4r.curation.mixing.topics`). So an item has the same cluster in any batch, on any
engine.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from phi4r.curation.item import Item
from phi4r.curation.mixing.topics import Topics, fit_topics
from phi4r.curation.stage import Outcome, kept
from phi4r.errors import UserError

NAME = "clusters"
UNRATED, UNKNOWN = "unrated", "other"


@dataclasses.dataclass(frozen=True)
class QualityRule:
    """Items that are called of one quality; all conditions that are given must hold. None of it is in the paper.

    Attributes:
      name: of the quality, as "high".
      field: where earlier stages noted the value, as "rubric.complexity" for `meta["rubric"]["complexity"]`; an item
        that lacks it is not of this quality.
      at_least: smallest number.
      below: numbers from here on are not of this quality.
      equals: the text that it must be.
    """

    name: str
    field: str
    at_least: float | None = None
    below: float | None = None
    equals: str | None = None

    def __post_init__(self):
        if not self.name or not self.field:
            raise UserError("a rule of clusters.quality needs a name and a field, as 'high' and 'rubric.complexity'.")
        if (self.at_least, self.below, self.equals) == (None, None, None):
            raise UserError(f"the rule {self.name!r} of clusters.quality asks nothing; set at_least, below or equals.")

    def holds(self, item: Item) -> bool:
        """Whether the item is of this quality."""
        value = noted_value(item, self.field)
        if self.equals is not None and value != self.equals:
            return False
        if self.at_least is None and self.below is None:
            return True
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return (self.at_least is None or value >= self.at_least) and (self.below is None or value < self.below)


@dataclasses.dataclass(frozen=True)
class ClusterSettings:
    """What makes a cluster. The paper clusters by domain and quality; how is not in it.

    Attributes:
      domain_field: where in `meta` a label of the domain stands; empty for the item's own domain, which also counts
        where there is no label.
      domains: label -> name of the domain, as {"algebra": "math"}; other labels are names themselves.
      quality_field: where in `meta` a label of the quality stands; it comes before the rules. Empty for none.
      quality: rules, of which the first that holds gives its name; "unrated" where none does.
      num_topics: how many topics are told apart by the words of the prompts; 0 for none.
      topic_sample: items that topics are fitted on, at most.
      topic_words: different words that topics are fitted on, at most.
      safety_domain: the domain whose items are one cluster of their own; empty for none.
      seed: of sample and fit.
      batch_size: items at a time.
    """

    domain_field: str = ""
    domains: dict[str, str] = dataclasses.field(default_factory=dict)
    quality_field: str = ""
    quality: tuple[QualityRule, ...] = ()
    num_topics: int = 0
    topic_sample: int = 20_000
    topic_words: int = 20_000
    safety_domain: str = "safety"
    seed: int = 0
    batch_size: int = 256

    def __post_init__(self):
        for name in ("topic_sample", "topic_words", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"clusters.{name}={getattr(self, name)} must be at least 1.")
        if self.num_topics < 0 or self.num_topics == 1:
            raise UserError(f"clusters.num_topics={self.num_topics} must be 0, for no topics, or at least 2.")


class ClusterStage:
    """Notes the cluster of every item, and keeps all.

    It notes `domain`, `source`, `quality`, with topics `topic`, and their name together, `cluster`.
    """

    name = NAME

    def __init__(self, settings: ClusterSettings, topics: Topics | None = None):
        """Takes what decides.

        Args:
          settings: of the stage.
          topics: that were fitted on its input; None for none.
        """
        self.batch_size = settings.batch_size
        self._settings, self._topics = settings, topics

    def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns the items with their clusters noted."""
        topics = self._topics.assign([item.prompt for item in items]) if self._topics else [""] * len(items)
        return [kept(item.noted(NAME, **self._found(item, topic))) for item, topic in zip(items, topics, strict=True)]

    def _found(self, item: Item, topic: str) -> dict[str, str]:
        settings = self._settings
        label = noted_value(item, settings.domain_field)
        label = label if isinstance(label, str) and label else item.domain
        parts = {
            "domain": _part(settings.domains.get(label, label)),
            "source": _part(item.source),
            "quality": _part(self._quality(item)),
        }
        parts |= {"topic": topic} if topic else {}
        alone = settings.safety_domain and parts["domain"] == _part(settings.safety_domain)
        return {**parts, "cluster": parts["domain"] if alone else "/".join(parts.values())}

    def _quality(self, item: Item) -> str:
        label = noted_value(item, self._settings.quality_field)
        if isinstance(label, str) and label:
            return label
        return next((rule.name for rule in self._settings.quality if rule.holds(item)), UNRATED)


def make_cluster_stage(settings: ClusterSettings, *, read: Callable[[], Iterator[Item]]) -> ClusterStage:
    """Returns the stage, its topics fitted where there are any.

    Args:
      settings: of the stage.
      read: gives an iterator over all items of its input; called only for topics.

    Raises:
      UserError: if topics are asked for, and scikit-learn is missing or the input has no words.
    """
    if not settings.num_topics:
        return ClusterStage(settings)
    topics = fit_topics(
        read(),
        num_topics=settings.num_topics,
        sample_size=settings.topic_sample,
        max_words=settings.topic_words,
        seed=settings.seed,
    )
    return ClusterStage(settings, topics)


def noted_value(item: Item, field: str) -> Any:
    """Returns what stands in `meta` under a dotted name, as "rubric.complexity"; None where there is nothing."""
    value: Any = item.meta if field else None
    for key in field.split(".") if field else ():
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _part(text: str) -> str:
    """Returns a part of a cluster's name: without blanks and slashes, which stand between parts."""
    return re.sub(r"[^\w.+-]+", "_", text.strip()).strip("_") or UNKNOWN
