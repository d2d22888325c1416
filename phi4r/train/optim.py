"""AdamW with warm-up, decay and clipping, from one frozen dataclass."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from phi4r.errors import UserError
from phi4r.train.rounding import Rounding, round_updates


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """The optimizer and its schedule; the defaults are the paper's SFT (section 3) where the paper speaks.

    Attributes:
      name: the algorithm; Adam is AdamW without weight decay.
      learning_rate: the peak. Paper: 1e-5 for SFT (grid 1e-6 to 2e-5), 5e-8 for GRPO.
      warmup_steps: steps of linear warm-up. Paper: 450 for SFT, 10 for GRPO.
      schedule: what follows the warm-up. Not in the paper.
      end_fraction: the learning rate at the last step as a share of the peak, for "cosine" and "linear". Not in the
        paper.
      weight_decay: decoupled, times the learning rate; norm scales are not decayed (not in the paper). Paper: 1e-4.
      b1: decay of the first moment. Not in the paper.
      b2: decay of the second moment. Not in the paper.
      eps: added to the root of the second moment. Not in the paper.
      clip_norm: largest global norm of the gradient, or None for no clipping. Not in the paper.
      moment_dtype: dtype of the first moment; the second has the dtype of the parameters, and float32 where `rounding`
        is not "nearest".
      rounding: how parameters in bfloat16 take up their updates (`phi4r.train.rounding`): "nearest", which loses most,
        "stochastic" or "kahan". Not in the paper.
      offload: keep the moments in the memory of the host between updates. Not in the paper.
    """

    name: Literal["adamw"] = "adamw"
    learning_rate: float = 1e-5
    warmup_steps: int = 450
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    end_fraction: float = 0.0
    weight_decay: float = 1e-4
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    clip_norm: float | None = 1.0
    moment_dtype: Literal["float32", "bfloat16"] = "float32"
    rounding: Rounding = "nearest"
    offload: bool = False

    def __post_init__(self):
        if not 0 <= self.learning_rate < float("inf"):
            raise UserError(f"optimizer.learning_rate={self.learning_rate} must be a finite number of at least 0.")
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"optimizer.{name}={getattr(self, name)} must be at least 0 and less than 1.")
        if self.eps <= 0:
            raise UserError(f"optimizer.eps={self.eps} must be positive: a gradient of 0 is divided by it.")


def make_schedule(settings: OptimizerSettings, *, num_steps: int) -> optax.Schedule:
    """Returns the learning rate as a function of the updates already done.

    Update t (from 0) of W warm-up steps has peak * (t + 1) / W, so the first one already learns and update W - 1
    has the peak. The decay then runs from update W to `num_steps`, where it would reach peak * end_fraction.

    Raises:
      UserError: if the warm-up is not shorter than the run.
    """
    peak, warmup = settings.learning_rate, settings.warmup_steps
    if not 0 <= warmup < num_steps:
        raise UserError(f"optimizer.warmup_steps={warmup} must be at least 0 and less than num_steps={num_steps}.")
    decay_steps = num_steps - warmup
    if settings.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, decay_steps, alpha=settings.end_fraction)
    elif settings.schedule == "linear":
        after = optax.linear_schedule(peak, peak * settings.end_fraction, decay_steps)
    else:
        after = optax.constant_schedule(peak)
    if not warmup:
        return after
    return optax.join_schedules([lambda step: peak * (step + 1) / warmup, after], [warmup])


def make_optimizer(
    settings: OptimizerSettings, *, num_steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Returns the optimizer, clipping first, and the schedule that it follows.

    Args:
      settings: the constants.
      num_steps: length of the run in updates, for the decay.

    Raises:
      UserError: if the warm-up is not shorter than the run.
    """
    schedule = make_schedule(settings, num_steps=num_steps)
    adamw = optax.adamw(
        schedule,
        b1=settings.b1,
        b2=settings.b2,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        mask=decay_mask,
        mu_dtype=jnp.dtype(settings.moment_dtype),
    )
    clipping = [] if settings.clip_norm is None else [optax.clip_by_global_norm(settings.clip_norm)]
    optimizer = optax.chain(*clipping, adamw) if clipping else adamw
    if settings.rounding != "nearest":
        optimizer = round_updates(optimizer, settings.rounding)
    return optimizer, schedule


def decay_mask(params: Any) -> Any:
    """Returns a tree of bools: true for what weight decay acts on, that is everything but the scales of norms."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path[-1:], simple=True) != "scale", params
    )
