"""One update, the same for SFT and for GRPO: gradients of a sum, one division, one optimizer step.

A loss function returns sums and weights instead of means. Sums of micro-batches add up exactly, whatever their
weights, and are divided once by the weight of the whole global batch. So the update does not depend on how a batch is
cut, packed or spread over devices.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from phi4r.errors import UserError
from phi4r.train.state import TrainState, moved_to_device
from phi4r.typing import Array, Params

Metrics = dict[str, Array]


@flax.struct.dataclass
class Mean:
    """A mean in two parts, so that means of parts can be joined."""

    total: Array  # [] float32: sum of the quantity times its weight
    weight: Array  # [] float32: sum of the weights


@flax.struct.dataclass
class Max:
    """The largest value of a quantity that is never negative; of nothing it is 0."""

    value: Array  # [] float32


@flax.struct.dataclass
class LossSum:
    """What a loss function returns for a batch: the loss is total / weight over the global batch."""

    total: Array  # [] float32: what is differentiated
    weight: Array  # [] float32: what it is divided by, once; must not depend on the parameters
    metrics: dict[str, Mean | Max]


LossFn = Callable[..., LossSum]  # (params, batch, *constants)
RowsInUse = Callable[[Any], Array]  # (batch) -> [B] bool


def make_update_fn(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    num_microbatches: int = 1,
    schedule: optax.Schedule | None = None,
    state_shardings: TrainState | None = None,
    rows_in_use: RowsInUse | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Returns the jitted update (state, batch, *constants) -> (state, metrics); it takes over the buffers of the state.

    Constants are trees of arrays that the loss reads and nobody changes, as the frozen base under adapters: arguments
    of the program, neither differentiated nor donated nor cut into micro-batches.

    The metrics are scalars: `loss`, `weight`, `grad_norm` (before clipping), `update_norm`, `param_norm`, `finite`,
    `learning_rate` where a schedule is given, and every Max and Mean of the loss, nan where its weight is 0. A batch of
    weight 0 has loss and gradient 0. Where the loss or the gradient is not finite, `finite` is 0 and the state is
    returned as it was, bit for bit: its `step` and the schedule count updates, not batches, so the loop goes on with
    the next batch (`phi4r.train.guards` says when it stops). AdamW turns a finite gradient into a finite update, so
    the new parameters need no look of their own, which would hold back their writing for a pass over the state.

    Args:
      loss_fn: (params, batch, *constants) -> LossSum.
      optimizer: from `phi4r.train.optim.make_optimizer`.
      num_microbatches: parts into which the rows of a batch are cut; activations exist for one part at a time.
      schedule: to report the learning rate.
      state_shardings: layout of the state (`phi4r.train.state.state_shardings`); needed on more than one device, for
        gradients to be accumulated in shards and for the state to keep its layout.
      rows_in_use: (batch) -> [B] bool, for batches of one shape of which only a part is filled (`fill_order`): rows
        without use must add nothing to the loss, and micro-batches behind the last one in use are not computed.
    """

    def update(state: TrainState, batch: Any, *constants: Any) -> tuple[TrainState, Metrics]:
        sums, grads = sum_gradients(
            loss_fn,
            state.params,
            batch,
            *constants,
            num_microbatches=num_microbatches,
            shardings=None if state_shardings is None else state_shardings.params,
            rows_in_use=rows_in_use,
        )
        grads = jax.tree.map(lambda g: _divide(g, sums.weight), grads)
        if state_shardings is not None:
            state = state.replace(opt_state=moved_to_device(state.opt_state, state_shardings.opt_state))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        updated = TrainState(step=state.step + 1, params=params, opt_state=opt_state)
        metrics = {
            **mean_metrics(sums),
            "weight": sums.weight,
            "grad_norm": _norm(grads),
            "update_norm": _norm(updates),
            "param_norm": _norm(params),
        }
        if schedule is not None:
            metrics["learning_rate"] = jnp.asarray(schedule(state.step), jnp.float32)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
        # Leaf by leaf inside the same program: no second state is ever held.
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)
        return kept, {**metrics, "finite": finite.astype(jnp.float32)}

    return jax.jit(update, donate_argnums=0, out_shardings=(state_shardings, None))


def sum_gradients(
    loss_fn: LossFn,
    params: Params,
    batch: Any,
    *constants: Any,
    num_microbatches: int = 1,
    shardings: Any = None,
    rows_in_use: RowsInUse | None = None,
) -> tuple[LossSum, Params]:
    """Returns the summed LossSum of a batch and the float32 gradient of its `total`, by a loop over micro-batches.

    Args:
      loss_fn: (params, batch, *constants) -> LossSum.
      params: what is differentiated by.
      batch: tree of arrays with rows on axis 0.
      *constants: what else the loss takes.
      num_microbatches: parts into which the rows are cut.
      shardings: layout of the gradients, as that of the parameters; None leaves it to the compiler.
      rows_in_use: see `make_update_fn`.
    """

    def differentiate(rows: Any) -> tuple[LossSum, Params]:
        def total(params: Params) -> tuple[Array, LossSum]:
            sums = loss_fn(params, rows, *constants)
            return sums.total, sums

        (_, sums), grads = jax.value_and_grad(total, has_aux=True)(params)
        grads = jax.tree.map(lambda g: g.astype(jnp.float32), grads)
        return sums, grads if shardings is None else jax.lax.with_sharding_constraint(grads, shardings)

    if num_microbatches == 1:
        return differentiate(batch)
    parts = split_rows(batch, num_microbatches)
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype),
        jax.eval_shape(differentiate, jax.tree.map(lambda x: x[0], parts)),
    )

    def accumulate(carry: Any, rows: Any) -> tuple[Any, None]:
        sums, grads = differentiate(rows)
        return (join_sums(carry[0], sums), jax.tree.map(jnp.add, carry[1], grads)), None

    if rows_in_use is None:
        return jax.lax.scan(accumulate, zeros, parts)[0]
    return jax.lax.fori_loop(
        0,
        parts_in_use(rows_in_use(batch), num_microbatches),
        lambda index, carry: accumulate(carry, take_part(parts, index))[0],
        zeros,
    )


def split_rows(batch: Any, num_parts: int) -> Any:
    """Cuts arrays [B ...] into [num_parts, B / num_parts, ...]: part j takes rows j, j + num_parts, ...

    A device holds a contiguous block of rows. Strided parts take some rows of every block, so each part keeps all
    devices busy and no row moves; contiguous parts would lie on a few devices each.

    Raises:
      UserError: if the rows cannot be cut evenly.
    """

    def split(x: Array) -> Array:
        if x.shape[0] % num_parts:
            raise UserError(f"a batch of {x.shape[0]} rows does not divide into {num_parts} micro-batches.")
        return jnp.swapaxes(x.reshape(-1, num_parts, *x.shape[1:]), 0, 1)

    return jax.tree.map(split, batch)


def take_part(parts: Any, index: Array) -> Any:
    """Returns one of the parts of `split_rows`, by a traced index."""
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), parts)


def join_rows(parts: Any) -> Any:
    """Undoes `split_rows`: arrays [num_parts, B / num_parts, ...] to [B, ...], rows in their old order."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), parts)


def fill_order(num_rows: int, num_parts: int) -> np.ndarray:
    """Returns where the first, second, ... row of a batch goes for `split_rows` to fill one part after the other.

    Args:
      num_rows: B, a multiple of `num_parts`.
      num_parts: micro-batches.

    Returns:
      [B] places in the batch.
    """
    return np.arange(num_rows).reshape(-1, num_parts).T.reshape(-1)


def parts_in_use(rows: Array, num_parts: int) -> Array:
    """Returns how many of the parts of `split_rows` have to be computed, up to the last with a row in use; [] int32.

    Args:
      rows: [B] bool, which are in use.
      num_parts: micro-batches.
    """
    used = jnp.any(split_rows(rows, num_parts), axis=1)
    return jnp.max(jnp.where(used, jnp.arange(1, num_parts + 1), 0))


def mean_metrics(sums: LossSum) -> Metrics:
    """Returns `loss` (0 where the weight is 0), every Max, and every Mean divided (nan where its weight is 0)."""
    means = {
        name: metric.value if isinstance(metric, Max) else metric.total / metric.weight
        for name, metric in sums.metrics.items()
    }
    return {"loss": _divide(sums.total, sums.weight), **means}


def join_sums(left: LossSum, right: LossSum) -> LossSum:
    """Returns the LossSum of two parts together."""

    def join(a: Any, b: Any) -> Any:
        return jax.tree.map(jnp.maximum if isinstance(a, Max) else jnp.add, a, b)

    return jax.tree.map(join, left, right, is_leaf=lambda x: isinstance(x, Max))


def _divide(total: Array, weight: Array) -> Array:
    """Returns total / weight, and 0 where there is no weight: a batch without a trained token teaches nothing."""
    return jnp.where(weight == 0, 0.0, total / jnp.where(weight == 0, 1.0, weight))


def _norm(tree: Any) -> Array:
    """Returns the global L2 norm of a tree, summed in float32."""
    return optax.tree.norm(jax.tree.map(lambda x: x.astype(jnp.float32), tree))
