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
CACHE_SHARES = (3 / 4, 1 / 2, 3 / 8, 1 / 4, 1 / 8, 1 / 16)  # sizes of the cache that are tried
HOPE = 1.15  # how far over the limit an estimate may be: it is crude

# What a change costs in speed, roughly, and so in the order of the search.
_PENALTY = {
    "offload": 0.10,
    "num_microbatches": 0.02,
    "remat": 0.15,
    "context": 0.05,
    "tensor": 0.10,
    "num_slots": 0.20,
    "cache_tokens": 0.15,
    "decode_tensor": 0.05,
}


@dataclasses.dataclass(frozen=True)
class Change:
    """Settings to change: dotted names and their new values."""

    settings: dict[str, Any]
    cost: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Sizes:
    """What memory depends on.

    The settings of decoding are None for an experiment that does not sample, and `cache_tokens` where the cache has a
    place for all that the slots can come to need.
    """

    offload: bool
    num_microbatches: int
    remat: str
    context: int
    tensor: int
    num_slots: int | None
    cache_tokens: int | None
    decode_tensor: int | None
    length: int
    num_rows: int
    num_devices: int
    data: int

    @property
    def shards(self) -> int:
        """Over how many devices the rows of training are spread."""
        return self.num_devices // (self.context * self.tensor)

    @property
    def decode_shards(self) -> int:
        """Parts of the batch of decoding."""
        return self.num_devices // self.decode_tensor

    @property
    def tokens(self) -> float:
        """Relative to the row length: tokens of a micro-batch on a device."""
        return self.num_rows / (self.shards * self.num_microbatches * self.context)

    @property
    def pool_tokens(self) -> int:
        """Tokens for which the cache has a place, on all devices together."""
        slots = -(-self.num_slots // self.decode_shards) * self.decode_shards
        return min(self.cache_tokens or slots * self.length, slots * self.length)

    def cached_tokens(self, kv_heads: int) -> float:
        """Returns the tokens whose keys and values a device holds, in whole layers.

        Args:
          kv_heads: K; devices beyond what divides them hold copies.
        """
        return self.pool_tokens / self.decode_shards / math.gcd(self.decode_tensor, kv_heads)


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
    kv_heads, _ = model_config(experiment).heads

    return sorted(
        (
            Change(_settings(now, then), _cost(now, then))
            for then in _variants(experiment, now, topology)
            if then != now and all(_estimate(plan, now, then, kv_heads) <= HOPE * plan.limit for plan in failing)
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
        length=row_length(experiment),
        num_devices=num_devices,
        data=sizes["data"],
    )
    if experiment.kind == "sft":
        none = dict(num_slots=None, cache_tokens=None, decode_tensor=None)
        return _Sizes(**training, **none, num_rows=settings.data.global_batch)
    num_rows = settings.problems_per_step * settings.grpo.group_size
    sampler = settings.sampler
    return _Sizes(
        **training,
        num_rows=num_rows,
        num_slots=min(sampler.num_slots or num_rows, num_rows),
        cache_tokens=sampler.cache_tokens,
        decode_tensor=sampler.tensor or sizes["tensor"],
    )


def _variants(experiment: Experiment, now: _Sizes, topology: Topology) -> Iterator[_Sizes]:
    """Yields the combinations that divide."""
    sft = experiment.kind == "sft"
    kv_heads, queries = model_config(experiment).heads
    splits = [n for n in SPLITS if queries % (n // math.gcd(n, kv_heads)) == 0]
    least = 0 if sft else now.length + 3 * experiment.settings.sampler.page_size  # tokens that a part has to hold
    combinations = itertools.product(
        # Only the compiler for TPUs knows the memory of the host.
        sorted({now.offload, CHIPS[topology.chip].platform == "tpu" or now.offload}),
        [now.num_microbatches * 2**k for k in range(7)],
        [remat for remat in KEPT if KEPT[remat] <= KEPT[now.remat]],
        SPLITS,
        splits,
        [(None, None)] if sft else _batches(now),
        [None] if sft else splits,
    )
    for offload, parts, remat, context, tensor, (slots, cache), decode_tensor in combinations:
        if parts > max(MOST_MICROBATCHES, now.num_microbatches) or (context > 1 and now.length % (2 * context)):
            continue
        if now.num_devices % (context * tensor * now.data) or now.num_devices % (decode_tensor or 1):
            continue
        then = dataclasses.replace(
            now,
            offload=offload,
            num_microbatches=parts,
            remat=remat,
            context=context,
            tensor=tensor,
            num_slots=slots,
            cache_tokens=cache,
            decode_tensor=decode_tensor,
        )
        if cache is not None and cache < least * then.decode_shards:
            continue
        if now.num_rows % (then.shards * parts) == 0:
            yield then


def _batches(now: _Sizes) -> list[tuple[int, int | None]]:
    """Returns (num_slots, cache_tokens): as they are, with a smaller cache, or with fewer slots."""
    smaller = [(now.num_slots, int(share * now.pool_tokens)) for share in CACHE_SHARES]
    fewer = [(now.num_slots // 2**k, now.cache_tokens) for k in range(1, 7) if now.num_slots >= 2**k]
    return [(now.num_slots, now.cache_tokens), *smaller, *fewer]


def _estimate(plan: ProgramPlan, now: _Sizes, then: _Sizes, kv_heads: int) -> float:
    """Returns bytes that a program may need after a change, from what it needed before."""
    rollout = plan.name in ("unroll", "prefill", "decode")
    if rollout:
        layer, cache = (
            now.decode_tensor / then.decode_tensor,
            then.cached_tokens(kv_heads) / now.cached_tokens(kv_heads),
        )
        scale = {"cache": cache, "decoding weights": layer, "results": layer, "workspace": layer}
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
        "num_slots": "sampler.num_slots",
        "cache_tokens": "sampler.cache_tokens",
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
        "num_slots": math.log2((now.num_slots or 1) / (then.num_slots or 1)),
        "cache_tokens": now.cache_tokens != then.cache_tokens and math.log2(now.pool_tokens / then.pool_tokens),
        "decode_tensor": abs(math.log2((then.decode_tensor or 1) / (now.decode_tensor or 1))),
    }
    changed = sum(step != 0 for step in steps.values())
    return changed, sum(_PENALTY[name] * step for name, step in steps.items())
