"""The reward of section 4.1: accuracy shaped by length, overridden by format, plus repetition; jitted.

The verdicts (is the answer right, is the format kept, how much is repeated) come from the host as arrays; the
arithmetic on them happens here.
"""

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp

from phi4r.errors import UserError
from phi4r.rl.repetition import RepetitionSettings
from phi4r.typing import Array, Bool, Float, Int, typechecked


@dataclasses.dataclass(frozen=True)
class RewardSettings:
    """Every constant of section 4.1. Lengths are in response tokens, the end token included.

    Attributes:
      max_length: L_max, the longest response that is sampled.
      positive_control_length: L_pos_control, up to which a right answer keeps its full reward.
      negative_control_length: L_neg_control, from which on a wrong answer has its mildest reward.
      correct_short: reward of a right answer up to L_pos_control.
      correct_long: reward of a right answer at L_max.
      incorrect_short: reward of a wrong answer at length 0.
      incorrect_long: reward of a wrong answer from L_neg_control on.
      incomplete: reward in place of the above when the response does not end with <|im_end|>.
      think_missing: reward in place of the above when the <think> block is missing or misused.
      incomplete_and_think_missing: reward when both hold.
      accuracy_weight: weight of the (overridden) accuracy reward in the sum.
      repetition_weight: weight of R_rep. The weights do not sum to 1, and are not normalised.
      length_aware: False gives the control of the experiments: `correct_short` for every right answer and
        `incorrect_short` for every wrong one, with the same overrides. Not in the paper.
      repetition: what counts as a repetition.
    """

    max_length: int = 31744  # section 4.1
    positive_control_length: int = 25600  # section 4.1
    negative_control_length: int = 3702  # section 4.1
    correct_short: float = 1.0  # section 4.1
    correct_long: float = 0.5  # section 4.1
    incorrect_short: float = -1.0  # section 4.1
    incorrect_long: float = -0.5  # section 4.1
    incomplete: float = -0.5  # section 4.1
    think_missing: float = -1.0  # section 4.1
    incomplete_and_think_missing: float = -1.0  # not in the paper
    accuracy_weight: float = 8 / 13  # section 4.1
    repetition_weight: float = 1 / 13  # section 4.1
    length_aware: bool = True
    repetition: RepetitionSettings = dataclasses.field(default_factory=RepetitionSettings)

    def __post_init__(self):
        if not 0 <= self.positive_control_length < self.max_length:
            raise UserError(
                f"reward.positive_control_length={self.positive_control_length} must be at least 0 and below "
                f"reward.max_length={self.max_length}; the paper has 25600 of 31744."
            )
        if self.negative_control_length < 1:
            raise UserError(
                f"reward.negative_control_length={self.negative_control_length} must be at least 1; the paper has 3702."
            )


@flax.struct.dataclass
class Rewards:
    """The reward of every response and its parts."""

    total: Array  # [B] float32: R_final, what the advantages are made of
    accuracy: Array  # [B] float32: 1 where the answer is right, whatever the format
    accuracy_scaled: Array  # [B] float32: R_acc_scaled, shaped by length and overridden by format
    repetition: Array  # [B] float32: R_rep


@functools.partial(jax.jit, static_argnames="settings")
@typechecked
def compute_rewards(
    correct: Bool[Array, "B"],
    lengths: Int[Array, "B"],
    complete: Bool[Array, "B"],
    think_ok: Bool[Array, "B"],
    repetition: Float[Array, "B"],
    settings: RewardSettings,
) -> Rewards:
    """Computes R_final = 8/13 R_acc_scaled + 1/13 R_rep for a batch of responses.

    Args:
      correct: whether the answer was judged right.
      lengths: L, response tokens with the end token.
      complete: whether the response ended with <|im_end|> (and was not cut off).
      think_ok: whether there is one <think> block, closed, in order.
      repetition: R_rep of each text, from `repetition_reward`.
      settings: the constants.
    """
    if settings.length_aware:
        scaled = length_scaled_accuracy(correct, lengths, settings)
    else:
        scaled = jnp.where(correct, settings.correct_short, settings.incorrect_short)
    scaled = jnp.where(complete, scaled, settings.incomplete)
    scaled = jnp.where(think_ok, scaled, settings.think_missing)
    scaled = jnp.where(complete | think_ok, scaled, settings.incomplete_and_think_missing)
    scaled = scaled.astype(jnp.float32)
    repetition = repetition.astype(jnp.float32)
    return Rewards(
        total=settings.accuracy_weight * scaled + settings.repetition_weight * repetition,
        accuracy=correct.astype(jnp.float32),
        accuracy_scaled=scaled,
        repetition=repetition,
    )


@typechecked
def length_scaled_accuracy(
    correct: Bool[Array, "B"], lengths: Int[Array, "B"], settings: RewardSettings
) -> Float[Array, "B"]:
    """Returns R_acc_scaled before the format overrides: a half cosine of the length (section 4.1, Figure 6).

    A right answer falls from 1.0 to 0.5 between L_pos_control and L_max, a wrong one rises from -1.0 to -0.5 between
    0 and L_neg_control: brevity where the model knows, thought where it does not.
    """
    lengths = lengths.astype(jnp.float32)
    over = jnp.maximum(lengths - settings.positive_control_length, 0.0)
    rho_pos = jnp.minimum(1.0, over / (settings.max_length - settings.positive_control_length))
    rho_neg = jnp.minimum(1.0, lengths / settings.negative_control_length)
    return jnp.where(
        correct,
        _half_cosine(settings.correct_short, settings.correct_long, rho_pos),
        _half_cosine(settings.incorrect_short, settings.incorrect_long, rho_neg),
    )


def _half_cosine(start: float, end: float, rho: Array) -> Array:
    """Goes smoothly from `start` at rho = 0 to `end` at rho = 1."""
    return end + 0.5 * (start - end) * (1.0 + jnp.cos(jnp.pi * rho))
