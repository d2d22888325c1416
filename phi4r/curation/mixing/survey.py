"""The first reading of the output: what there is, how long it is, and whether it can be written.

Nothing is held but 4 bytes an item for its length.
"""

import array
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal

from phi4r.curation.item import Item
from phi4r.curation.mixing.clusters import NAME as CLUSTERS
from phi4r.curation.mixing.clusters import noted_value
from phi4r.curation.mixing.mixture import ClusterCount, MixtureSettings, cluster_of
from phi4r.curation.overlap.held_out import HELD_OUT, side_of
from phi4r.errors import UserError


@dataclasses.dataclass(frozen=True)
class OutputSettings:
    """What is written. None of it is in the paper but the length of a row.

    Attributes:
      name: begins the names of the data sets, in snake case.
      version: of both, three numbers.
      tokenizer: folder of the model that will be trained, whose tokens are counted; empty counts words, and then no
        row can be called too long.
      row_length: tokens of a packed row (section 3).
      overlong: "error" refuses traces of more tokens than a row, "drop" leaves them out and counts them.
      shard_mib: size at which a new file is begun.
      problem_sources: whose items become problems of reinforcement learning, if they have an answer; None for all.
    """

    name: str = "curated"
    version: str = "1.0.0"
    tokenizer: str = ""
    row_length: int = 32_768
    overlong: Literal["error", "drop"] = "error"
    shard_mib: int = 256
    problem_sources: tuple[str, ...] | None = None

    def __post_init__(self):
        if not (self.name.isidentifier() and self.name.islower()):
            raise UserError(f"output.name={self.name!r} must be in snake case, as 'my_traces'.")
        for name in ("row_length", "shard_mib"):
            if getattr(self, name) < 1:
                raise UserError(f"output.{name}={getattr(self, name)} must be at least 1.")
        if not all(part.isdecimal() for part in self.version.split(".")) or self.version.count(".") != 2:
            raise UserError(f"output.version={self.version!r} must be three numbers, as '1.0.0'.")


@dataclasses.dataclass
class Survey:
    """What the first reading counts.

    Attributes:
      counts: of the training traces of every cluster.
      lengths: of the training traces that are in the mixture.
      held_out: traces that are held out.
      held_out_length: of these.
      problems: items that become problems, prompts that come again among them.
      neither: items that are neither trace nor problem.
      overlong: traces that are too long to be written.
      longest: length of the longest trace.
      longest_id: its item.
      origins: (source, licence) -> items that will be written.
    """

    counts: dict[str, ClusterCount] = dataclasses.field(default_factory=dict)
    lengths: array.array = dataclasses.field(default_factory=lambda: array.array("i"))
    held_out: int = 0
    held_out_length: int = 0
    problems: int = 0
    neither: int = 0
    overlong: int = 0
    longest: int = 0
    longest_id: str = ""
    origins: Counter = dataclasses.field(default_factory=Counter)


def survey_items(
    items: Iterable[Item],
    output: OutputSettings,
    mixture: MixtureSettings,
    count: Callable[[Item], int],
    fits: Callable[[int], bool],
) -> Survey:
    """Reads all items once and counts.

    Args:
      items: with their clusters noted.
      output: what will be written.
      mixture: the weights of the clusters.
      count: the length of a trace.
      fits: whether a trace of a length may be written.

    Raises:
      UserError: for an item without a cluster, or a cluster without a weight.
    """
    survey = Survey()
    for item in items:
        problem = is_problem(item, output, mixture)
        survey.problems += problem
        if not item.solution.strip():
            survey.neither += not problem
            survey.origins[item.source, item.licence] += problem
            continue
        length = count(item)
        if length > survey.longest:
            survey.longest, survey.longest_id = length, item.id
        if not fits(length):
            survey.overlong += 1
            survey.origins[item.source, item.licence] += problem
            continue
        if side_of(item) == HELD_OUT:
            survey.held_out += 1
            survey.held_out_length += length
            survey.origins[item.source, item.licence] += 1
            continue
        cluster, times = cluster_of(item), mixture.times(item)
        survey.counts[cluster] = survey.counts.get(cluster, ClusterCount()).plus(length, times)
        survey.origins[item.source, item.licence] += bool(times or problem)
        if times:
            survey.lengths.append(length)
    return survey


def check_survey(survey: Survey, output: OutputSettings, mixture: MixtureSettings) -> None:
    """Refuses what would be written wrongly.

    Raises:
      UserError: for traces that are too long, patterns of the mixture that decide nothing, or an output without items.
    """
    traces = sum(cluster.items for cluster in survey.counts.values()) + survey.held_out + survey.overlong
    if survey.overlong and output.overlong == "error":
        raise UserError(
            f"{survey.overlong} of {traces} traces are longer than output.row_length={output.row_length} tokens, the"
            f" longest {survey.longest} (item {survey.longest_id}); raise row_length, or set overlong='drop' to leave"
            " them out."
        )
    if survey.counts:
        mixture.check_used(survey.counts)
    if not survey.problems and not traces:
        raise UserError("curation ends with no items that have a solution or an answer; see what the stages dropped.")
    if survey.counts and not survey.lengths:
        raise UserError("the weights of the mixture leave out every cluster; give one of them some epochs.")


def is_problem(item: Item, output: OutputSettings, mixture: MixtureSettings) -> bool:
    """Whether the item becomes a problem: it is of a source that gives them, and has an answer that can be checked.

    Safety data has none to check, whatever its fields say.
    """
    if output.problem_sources is not None and item.source not in output.problem_sources:
        return False
    domain = noted_value(item, f"{CLUSTERS}.domain") or item.domain
    return bool(item.answer.strip()) and domain != mixture.safety_domain
