"""Executed FLOPs of a program, counted in its jaxpr.

XLA's own cost analysis counts the body of a scan once and a custom kernel as nothing, which for a decoder is one
per cent of the truth. Here the jaxpr is walked, after what nobody reads has been removed: a matrix product counts
2 * M * N * K, times the lengths of the scans around it, times the devices where a `shard_map` shows the part of one.
Recomputation in the backward pass stands in the jaxpr and so is counted. Element-wise work is left out: it is bound by
memory.

Attention kernels hide their products. They are known by name, and each product is counted over the causal pairs of
whole rows. Blockwise attention in plain products visits the key blocks of a query block in a loop that ends on data; it
is known by standing inside another loop, and passes as often as whole causal rows need. Both are an upper bound for
packed rows, whose other segments are skipped. In a decode step such a loop goes over the pages of all
sequences; a kernel that does it multiplies the queries of a KV head with as much of the pool as it reads.
"""

import dataclasses
from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

from jax.extend import core as jex_core
from jax.interpreters import partial_eval as pe

from phi4r.model.kv_cache import PAGE_KERNEL

# What an attention kernel's name ends in or contains -> matrix products over the (query, key) pairs. Forward: scores
# and values. Backward: scores and gradient of weights in each kernel, then dQ in one, dK and dV in the other.
KERNEL_PRODUCTS = (("dkv", 4), ("dq", 3), ("forward", 2), ("fwd", 2))
ATTENTION_KERNELS = ("attention", "splash")


@dataclasses.dataclass(frozen=True)
class Flops:
    """What a program multiplies, over all devices.

    Attributes:
      once: FLOPs outside loops with a data-dependent end.
      iteration: FLOPs of one pass through the bodies of such loops (a decode step).
      products: matrix products of attention kernels over all pairs of the batch, scans counted.
      unknown: names of kernels that could not be counted.
    """

    once: float = 0
    iteration: float = 0
    products: float = 0
    unknown: frozenset[str] = frozenset()

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(
            self.once + other.once,
            self.iteration + other.iteration,
            self.products + other.products,
            self.unknown | other.unknown,
        )

    def repeated(self, times: float) -> "Flops":
        """Returns the work of `times` passes."""
        return dataclasses.replace(
            self, once=self.once * times, iteration=self.iteration * times, products=self.products * times
        )

    def on_devices(self, number: int) -> "Flops":
        """Returns the work of all devices where that of one was counted; products are those of the whole batch."""
        return dataclasses.replace(self, once=self.once * number, iteration=self.iteration * number)


def count_flops(closed: Any, *, visits: float = 1.0, page_share: float = 1.0) -> Flops:
    """Returns the FLOPs of the matrix products of a closed jaxpr, as `jitted.trace(...).jaxpr` gives it.

    Args:
      closed: what is walked.
      visits: passes of a loop on data that stands inside another loop: the key blocks that a query block sees on
        average, or the blocks of pages.
      page_share: of the pool of pages, that a kernel for pages reads.
    """
    jaxpr, _ = pe.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return _walk(jaxpr, _Assumed(visits, page_share), in_loop=False)


class _Assumed(NamedTuple):
    """What depends on data: see `count_flops`."""

    visits: float
    page_share: float


def _walk(jaxpr: Any, assumed: _Assumed, *, in_loop: bool) -> Flops:
    """Sums the equations of a jaxpr."""
    return sum((_equation(eqn, assumed, in_loop) for eqn in jaxpr.eqns), Flops())


def _equation(eqn: Any, assumed: _Assumed, in_loop: bool) -> Flops:
    """Returns the FLOPs of one equation, those of the jaxprs inside it included."""
    name = eqn.primitive.name
    if name == "dot_general":
        return Flops(once=_dot_flops(eqn))
    if name == "pallas_call":
        kernel = str(eqn.params.get("name") or eqn.params["name_and_src_info"])
        if kernel.startswith(PAGE_KERNEL):
            return Flops(once=_page_flops(eqn) * assumed.page_share)
        return _kernel(kernel)
    inner = [_walk(jaxpr, assumed, in_loop=in_loop or name in ("scan", "while")) for jaxpr in _inner_jaxprs(eqn)]
    if name == "cond":
        return max(inner, key=lambda branch: (branch.once + branch.iteration, branch.products))
    total = sum(inner, Flops())
    if name == "scan":
        return total.repeated(eqn.params["length"])
    if name == "while":
        if in_loop:
            return total.repeated(assumed.visits)
        return dataclasses.replace(total, once=0, iteration=total.once + total.iteration)
    if name == "shard_map":
        return total.on_devices(eqn.params["mesh"].size)
    return total


def _inner_jaxprs(eqn: Any) -> Iterator[Any]:
    """Yields the jaxprs among the parameters of an equation."""
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, jex_core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, jex_core.Jaxpr):
                yield item


def _dot_flops(eqn: Any) -> int:
    """Returns 2 * batch * M * N * K of a dot_general."""
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left = eqn.invars[0].aval.shape
    return 2 * prod(eqn.outvars[0].aval.shape) * prod(left[axis] for axis in contracted)


def _page_flops(eqn: Any) -> int:
    """Returns the FLOPs of scores and values, if a sequence had the whole pool: 4 * rows * K * P * p * H."""
    pool = eqn.invars[-1].aval if eqn.invars[-1].aval.ndim == 4 else eqn.invars[-2].aval  # or before its scales
    mixed = eqn.outvars[-1].aval.shape  # [.. K rows H]
    return 4 * mixed[-2] * prod(pool.shape)


def _kernel(name: str) -> Flops:
    """Returns the products of an attention kernel, or the name of another one."""
    products = next((count for part, count in KERNEL_PRODUCTS if part in name), 0)
    if products and any(part in name for part in ATTENTION_KERNELS):
        return Flops(products=products)
    return Flops(unknown=frozenset({name}))
