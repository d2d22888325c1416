"""The mixture: a weight for every cluster, which is how many epochs of it a pass over the mixture has (section 2.2).

Weights are epochs and no shares: 1 takes every item of a cluster once, 2 twice, 0 none, and 0.3 three tenths of them,
always the same ones, by a hash of their ids. So they need not sum to anything, and the weight of one cluster says
nothing about another: this is what makes the *additive property* of the paper usable. Weights that were tuned for each
domain apart (`MixtureSettings.domains`) are put side by side, and each domain has in the whole the items that it had
alone.
"""

import dataclasses
import fnmatch
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from phi4r.curation.draws import hash_of_id
from phi4r.curation.item import Item
from phi4r.curation.mixing.clusters import NAME as CLUSTERS
from phi4r.curation.mixing.clusters import noted_value
from phi4r.errors import UserError

if TYPE_CHECKING:
    from phi4r.evals.reporting.tables import Table


@dataclasses.dataclass(frozen=True)
class ClusterWeight:
    """Epochs over the clusters that a pattern matches.

    Attributes:
      pattern: of names, with * for anything, as "math/*/high*".
      epochs: passes over their items in one pass over the mixture; 0 leaves them out.
    """

    pattern: str
    epochs: float

    def __post_init__(self):
        if not self.pattern:
            raise UserError("a weight of the mixture has no pattern; write one, as 'math/*'.")
        if not 0.0 <= self.epochs < math.inf:
            raise UserError(f"mixture: {self.pattern} has {self.epochs} epochs; give 0, to leave it out, or more.")


@dataclasses.dataclass(frozen=True)
class MixtureSettings:
    """Weights of all clusters. The paper has one weight a cluster; their values are not in it.

    Attributes:
      weights: of any clusters; the first pattern that matches counts, before those of `domains`.
      domains: domain -> weights that were tuned for it apart; they apply to clusters of that domain alone, whatever
        their patterns say.
      default: epochs of clusters that no pattern matches; None refuses them.
      safety_domain: its clusters stand last, in tables and in the mixture.
      seed: decides which items a fraction of an epoch has.
    """

    weights: tuple[ClusterWeight, ...] = ()
    domains: dict[str, tuple[ClusterWeight, ...]] = dataclasses.field(default_factory=dict)
    default: float | None = 1.0
    safety_domain: str = "safety"
    seed: int = 0

    def __post_init__(self):
        if self.default is not None and not 0.0 <= self.default < math.inf:
            raise UserError(f"mixture.default={self.default} must be at least 0, or None to refuse what has no weight.")

    def epochs(self, cluster: str) -> float:
        """Returns the weight of a cluster.

        Raises:
          UserError: if no pattern matches and there is no default.
        """
        rule = self.rule(cluster)
        if rule is not None:
            return rule.epochs
        if self.default is None:
            raise UserError(f"the mixture has no weight for the cluster {cluster}; add a pattern, or mixture.default.")
        return self.default

    def rule(self, cluster: str) -> ClusterWeight | None:
        """Returns the weight whose pattern comes first among those that match; None for none."""
        rules = (*self.weights, *self.domains.get(domain_of(cluster), ()))
        return next((rule for rule in rules if fnmatch.fnmatchcase(cluster, rule.pattern)), None)

    def times(self, item: Item) -> int:
        """Returns how often the item comes in one pass over the mixture.

        Raises:
          UserError: as `epochs` and `cluster_of`.
        """
        whole, part = divmod(self.epochs(cluster_of(item)), 1.0)
        return int(whole) + (hash_of_id(item.id, self.seed) < part)

    def check_used(self, clusters: Iterable[str]) -> None:
        """Refuses patterns that match nothing: they are misspelt, or stand behind one that matches all.

        Raises:
          UserError: naming the first, and the clusters that there are.
        """
        clusters = sorted(clusters)
        used = [self.rule(cluster) for cluster in clusters]
        for rule in (*self.weights, *(rule for rules in self.domains.values() for rule in rules)):
            if not any(rule is other for other in used):
                raise UserError(
                    f"the pattern {rule.pattern!r} of the mixture decides about no cluster: it matches none, or an"
                    f" earlier one does; there are {', '.join(clusters) or 'no clusters'}."
                )


@dataclasses.dataclass(frozen=True)
class ClusterCount:
    """What a cluster has, and what one pass over the mixture takes of it.

    Attributes:
      items: how many there are.
      tokens: of them.
      kept: items that the mixture has at least once.
      drawn: items of one pass: an item of two epochs counts twice.
      drawn_tokens: of these.
    """

    items: int = 0
    tokens: int = 0
    kept: int = 0
    drawn: int = 0
    drawn_tokens: int = 0

    def plus(self, tokens: int, times: int) -> "ClusterCount":
        """Returns the counts with one item more."""
        return ClusterCount(
            self.items + 1,
            self.tokens + tokens,
            self.kept + (times > 0),
            self.drawn + times,
            self.drawn_tokens + times * tokens,
        )


def cluster_of(item: Item) -> str:
    """Returns the name of the item's cluster.

    Raises:
      UserError: if the stage that notes it did not run.
    """
    cluster = noted_value(item, f"{CLUSTERS}.cluster")
    if not isinstance(cluster, str) or not cluster:
        raise UserError(f"item {item.id} has no cluster; run the stage 'clusters' before the mixture.")
    return cluster


def domain_of(cluster: str) -> str:
    """Returns the domain that a cluster's name begins with."""
    return cluster.partition("/")[0]


def in_order(clusters: Iterable[str], settings: MixtureSettings) -> list[str]:
    """Returns the clusters by name, those of the safety domain last."""
    return sorted(clusters, key=lambda cluster: (domain_of(cluster) == settings.safety_domain, cluster))


def mixture_table(counts: Mapping[str, ClusterCount], settings: MixtureSettings, *, unit: str) -> "Table":
    """Returns the clusters with their items, tokens, weights, epochs and shares.

    Args:
      counts: of every cluster.
      settings: the weights.
      unit: what length is counted in, "tokens" or "words".
    """
    from phi4r.evals.reporting.tables import Table, percent

    drawn = sum(count.drawn for count in counts.values())
    drawn_tokens = sum(count.drawn_tokens for count in counts.values())
    header = ["cluster", "items", unit, "weight", "epochs", "items a pass", "share of items", f"share of {unit}"]
    rows, records = [], []
    for name in in_order(counts, settings):
        count, weight = counts[name], settings.epochs(name)
        share, token_share = count.drawn / max(drawn, 1), count.drawn_tokens / max(drawn_tokens, 1)
        epochs = count.drawn / count.items
        cells = [name, f"{count.items:,}", f"{count.tokens:,}", f"{weight:g}", f"{epochs:.3g}", f"{count.drawn:,}"]
        rows.append([*cells, percent(share), percent(token_share)])
        record = {"cluster": name, **dataclasses.asdict(count), "weight": weight, "epochs": epochs}
        records.append({**record, "share": share, "token_share": token_share})
    caption = (
        f"A weight is the epochs asked of a cluster, and epochs those that whole items make of it. Weights sum to "
        f"nothing in particular: one pass over the mixture is the sum of items x epochs, {drawn:,} items with "
        f"{drawn_tokens:,} {unit}, and a share, in percent, is a cluster's part of these sums."
    )
    return Table("mixture", header, rows, caption, records)
