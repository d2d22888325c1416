"""The smallest change of settings with which everything fits, on the same devices.

All combinations of a few settings are listed and ordered by how much they change and cost. A crude estimate from the
plan that did not fit strikes out those without hope; the others are compiled until one fits or the budget is spent.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from phi4r.errors import UserError
from phi4r.planning.experiment import Experiment
from phi4r.planning.plan import ProgramPlan
from phi4r.planning.programs import model_config, row_length
from phi4r.planning.topologies import CHIPS, Topology

# Remat policies from light to heavy, and what they keep for each token and layer in units of D (`phi4r.model.remat`).
KEPT = {"none": 40.0, "dots": 11.0, "attention": 2.0, "full": 1.0, "offload": 0.05}
SPLITS = (1, 2, 4, 8)
MOST_MICROBATCHES = 64
HOPE = 1.15  # how far over the limit an estimate may be: it is crude

# What a change costs in speed, roughly, and so in the order of the search.
_PENALTY = {
    "offload": 0.10,
    "num_microbatches": 0.02,
    "remat": 0.15,
    "context": 0.05,
    "tensor": 0.10,
    "rows_per_wave": 0.20,
    "decode_tensor": 0.05,
}


@dataclasses.dataclass(frozen=True)
class Change:
    """Settings to change: dotted names and their new values."""

    settings: dict[str, Any]
    cost: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Sizes:
    """What memory depends on; the last two are None for an experiment that does not sample."""

    offload: bool
    num_microbatches: int
    remat: str
    context: int
    tensor: int
    rows_per_wave: int | None
    decode_tensor: int | None
    num_rows: int
    num_devices: int
    data: int

    @property
    def shards(self) -> int:
        """Over how many devices the rows of training are spread."""
        return self.num_devices // (self.context * self.tensor)

    @property
    def tokens(self) -> float:
        """Relative to the row length: tokens of a micro-batch on a device."""
        return self.num_rows / (self.shards * self.num_microbatches * self.context)

    def cached_rows(self, group: int, kv_heads: int) -> float:
        """Returns the rows of a wave whose keys and values a device holds, in whole layers.

        Args:
          group: rows of one problem, the least that a part of the devices takes.
          kv_heads: K; devices beyond what divides them hold copies.
        """
        parts = self.num_devices // self.decode_tensor
        return max(self.rows_per_wave / parts, group) / math.gcd(self.decode_tensor, kv_heads)


def search(
    experiment: Experiment,
    plans: Sequence[ProgramPlan],
    topology: Topology,
    compile_one: Callable[[Experiment, str], ProgramPlan],
    budget: int,
) -> tuple[Change | None, int]:
    """Returns the first change that fits, None without one, and how many programs were compiled anew.

    Args:
      experiment: what was planned.
      plans: of all its programs; at least one does not fit.
      topology: what it was planned for.
      compile_one: plans one program of an experiment.
      budget: programs that may be compiled anew.
    """
    spent = 0
    # Those that did not fit come first: they decide soonest against a candidate.
    names = [plan.name for plan in sorted(plans, key=lambda plan: plan.fits)]
    for change in promising(experiment, plans, topology):
        try:
            changed = experiment.replace(change.settings)
        except UserError:
            continue
        for name in names:
            if spent >= budget:
                return None, spent
            try:
                plan = compile_one(changed, name)
            except UserError:
                break  # a combination that the program itself refuses
            spent += not plan.cached
            if not plan.fits:
                break
        else:
            return change, spent
    return None, spent


def promising(experiment: Experiment, plans: Sequence[ProgramPlan], topology: Topology) -> list[Change]:
    """Returns the changes with which everything may fit, cheapest first."""
    now = _sizes(experiment, topology.num_devices)
    failing = [plan for plan in plans if not plan.fits]
    group = 1 if experiment.kind == "sft" else experiment.settings.grpo.group_size
    kv_heads, _ = model_config(experiment).heads

    def rows(sizes: _Sizes) -> float:
        return sizes.cached_rows(group, kv_heads)

    return sorted(
        (
            Change(_settings(now, then), _cost(now, then))
            for then in _variants(experiment, now, topology)
            if then != now and all(_estimate(plan, now, then, rows) <= HOPE * plan.limit for plan in failing)
        ),
        key=lambda change: change.cost,
    )


def _sizes(experiment: Experiment, num_devices: int) -> _Sizes:
    """Reads the sizes from an experiment."""
    settings = experiment.settings
    mesh = dataclasses.asdict(settings.mesh)
    rest = num_devices // math.prod(size for size in mesh.values() if size != -1)
    sizes = {name: rest if size == -1 else size for name, size in mesh.items()}
    training = dict(
        offload=settings.optimizer.offload,
        num_microbatches=settings.num_microbatches,
        remat=settings.model.remat,
        context=sizes["context"],
        tensor=sizes["tensor"],
        num_devices=num_devices,
        data=sizes["data"],
    )
    if experiment.kind == "sft":
        return _Sizes(**training, num_rows=settings.data.global_batch, rows_per_wave=None, decode_tensor=None)
    num_rows = settings.problems_per_step * settings.grpo.group_size
    sampler = settings.sampler
    return _Sizes(
        **training,
        num_rows=num_rows,
        rows_per_wave=sampler.rows_per_wave or num_rows,
        decode_tensor=sampler.tensor or sizes["tensor"],
    )


def _variants(experiment: Experiment, now: _Sizes, topology: Topology) -> Iterator[_Sizes]:
    """Yields the combinations that divide."""
    sft = experiment.kind == "sft"
    kv_heads, queries = model_config(experiment).heads
    splits = [n for n in SPLITS if queries % (n // math.gcd(n, kv_heads)) == 0]
    length = row_length(experiment)
    combinations = itertools.product(
        # Only the compiler for TPUs knows the memory of the host.
        sorted({now.offload, CHIPS[topology.chip].platform == "tpu" or now.offload}),
        [now.num_microbatches * 2**k for k in range(7)],
        [remat for remat in KEPT if KEPT[remat] <= KEPT[now.remat]],
        SPLITS,
        splits,
        [None] if sft else _waves(experiment, now),
        [None] if sft else splits,
    )
    for offload, parts, remat, context, tensor, wave, decode_tensor in combinations:
        if parts > max(MOST_MICROBATCHES, now.num_microbatches) or (context > 1 and length % (2 * context)):
            continue
        if now.num_devices % (context * tensor * now.data) or now.num_devices % (decode_tensor or 1):
            continue
        then = _Sizes(
            offload, parts, remat, context, tensor, wave, decode_tensor, now.num_rows, now.num_devices, now.data
        )
        if now.num_rows % (then.shards * parts) == 0:
            yield then


def _waves(experiment: Experiment, now: _Sizes) -> list[int]:
    """Returns sizes of a wave: as it is, and halves down to a group."""
    group = experiment.settings.grpo.group_size
    return [now.rows_per_wave // 2**k for k in range(7) if now.rows_per_wave // 2**k >= group]


def _estimate(plan: ProgramPlan, now: _Sizes, then: _Sizes, rows: Callable[[_Sizes], float]) -> float:
    """Returns bytes that a program may need after a change, from what it needed before; `rows` as `cached_rows`."""
    rollout = plan.name in ("unroll", "prefill", "decode")
    if rollout:
        layer = now.decode_tensor / then.decode_tensor
        scale = {"cache": rows(then) / rows(now), "decoding weights": layer, "results": layer, "workspace": layer}
    else:
        tokens = then.tokens / now.tokens
        scale = {"activations": tokens * KEPT[then.remat] / KEPT[now.remat], "workspace": tokens}
    if then.offload and not now.offload:
        scale |= {"optimizer": 0.1, "optimizer (kept)": 0.0}
    known = sum(plan.memory.values())
    total = sum(size * scale.get(kind, 1.0) for kind, size in plan.memory.items())
    # What the compiler asked for without saying what it is goes as the workspace.
    return total + max(0, (plan.total or 0) - known) * scale["workspace"]


def _settings(now: _Sizes, then: _Sizes) -> dict[str, Any]:
    """Returns the flags of a change."""
    names = {
        "offload": "optimizer.offload",
        "num_microbatches": "num_microbatches",
        "remat": "model.remat",
        "context": "mesh.context",
        "tensor": "mesh.tensor",
        "rows_per_wave": "sampler.rows_per_wave",
        "decode_tensor": "sampler.tensor",
    }
    settings = {flag: getattr(then, name) for name, flag in names.items() if getattr(now, name) != getattr(then, name)}
    if "mesh.context" in settings or "mesh.tensor" in settings:
        settings["mesh.fsdp"] = then.shards // then.data
    return settings


def _cost(now: _Sizes, then: _Sizes) -> tuple[float, ...]:
    """Returns (number of settings changed, rough loss of speed)."""
    steps = {
        "offload": then.offload - now.offload,
        "num_microbatches": math.log2(then.num_microbatches / now.num_microbatches),
        "remat": list(KEPT).index(then.remat) - list(KEPT).index(now.remat),
        "context": abs(math.log2(then.context / now.context)),
        "tensor": abs(math.log2(then.tensor / now.tensor)),
        "rows_per_wave": math.log2((now.rows_per_wave or 1) / (then.rows_per_wave or 1)),
        "decode_tensor": abs(math.log2((then.decode_tensor or 1) / (now.decode_tensor or 1))),
    }
    changed = sum(step != 0 for step in steps.values())
    return changed, sum(_PENALTY[name] * step for name, step in steps.items())
