"""The reward, jitted: a weighted sum of named parts, by default section 4.1's accuracy by length, and repetition.

The verdicts (is the answer right, is the format kept, how much is repeated, what do further verifiers say) come from
the host as arrays; the arithmetic on them happens here.
"""

import dataclasses
import functools
import operator
from collections import Counter
from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp

from phi4r.errors import UserError
from phi4r.rl.repetition import RepetitionSettings
from phi4r.rl.reward_parts import RewardPart
from phi4r.typing import Array, Bool, Float, Int, typechecked

PAPER_PARTS = (RewardPart("accuracy", 8 / 13), RewardPart("repetition", 1 / 13))  # section 4.1


@dataclasses.dataclass(frozen=True)
class RewardSettings:
    """What a reward is made of, and every constant of section 4.1. Lengths are in response tokens, with the end token.

    Attributes:
      parts: the terms of the sum, each with its weight. The paper's weights do not sum to 1, and are not normalised.
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
      length_aware: False gives the control of the experiments: `correct_short` for every right answer and
        `incorrect_short` for every wrong one, with the same overrides. Not in the paper.
      overlong_buffer: tokens before `max_length` over which the part "overlong" falls from 0 to -1.
      repetition: what counts as a repetition.
    """

    parts: tuple[RewardPart, ...] = PAPER_PARTS  # section 4.1
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
    length_aware: bool = True
    overlong_buffer: int = 4096  # not in the paper; DAPO's
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
        counts = Counter(part.name for part in self.parts)
        if not counts or max(counts.values()) > 1:
            raise UserError(f"reward.parts must name at least one part, and each once, not {list(counts.elements())}.")
        if "overlong" in counts and not 0 < self.overlong_buffer <= self.max_length:
            raise UserError(
                f"reward.overlong_buffer={self.overlong_buffer} must be at least 1 and at most "
                f"reward.max_length={self.max_length}; DAPO has a fifth of it."
            )


@flax.struct.dataclass
class Rewards:
    """The reward of every response and its parts."""

    total: Array  # [B] float32: the weighted sum, what the advantages are made of
    accuracy: Array  # [B] float32: 1 where the answer is right, whatever the format
    parts: dict[str, Array]  # name -> [B] float32, before the weights


@functools.partial(jax.jit, static_argnames="settings")
@typechecked
def compute_rewards(
    correct: Bool[Array, "B"],
    lengths: Int[Array, "B"],
    complete: Bool[Array, "B"],
    think_ok: Bool[Array, "B"],
    repetition: Float[Array, "B"],
    settings: RewardSettings,
    scores: Mapping[str, Float[Array, "B"]] | None = None,
) -> Rewards:
    """Computes the weighted sum for a batch of responses; the paper's is R_final = 8/13 R_acc_scaled + 1/13 R_rep.

    Args:
      correct: whether the answer was judged right.
      lengths: L, response tokens with the end token.
      complete: whether the response ended with <|im_end|> (and was not cut off).
      think_ok: whether there is one <think> block, closed, in order.
      repetition: R_rep of each text, from `repetition_reward`.
      settings: the parts and the constants.
      scores: of the parts that verifiers score, by name.
    """
    correct_or_not = correct.astype(jnp.float32)

    def compute(part: RewardPart) -> Array:
        match part.name:
            case "accuracy":
                return _with_overrides(_shaped_accuracy(correct, lengths, settings), complete, think_ok, settings)
            case "repetition":
                return repetition
            case "correct":
                return correct_or_not
            case "format":
                return complete & think_ok
            case "overlong":
                return soft_overlong_penalty(lengths, settings)
            case _:
                return scores[part.name]

    parts = {part.name: compute(part).astype(jnp.float32) for part in settings.parts}
    weighted = [part.weight * parts[part.name] for part in settings.parts]
    return Rewards(total=functools.reduce(operator.add, weighted), accuracy=correct_or_not, parts=parts)


def _shaped_accuracy(correct: Array, lengths: Array, settings: RewardSettings) -> Array:
    """Returns R_acc_scaled before the overrides, or the plain control."""
    if settings.length_aware:
        return length_scaled_accuracy(correct, lengths, settings)
    return jnp.where(correct, settings.correct_short, settings.incorrect_short)


def _with_overrides(scaled: Array, complete: Array, think_ok: Array, settings: RewardSettings) -> Array:
    """Replaces the accuracy reward of responses that break the format."""
    scaled = jnp.where(complete, scaled, settings.incomplete)
    scaled = jnp.where(think_ok, scaled, settings.think_missing)
    return jnp.where(complete | think_ok, scaled, settings.incomplete_and_think_missing)


@typechecked
def soft_overlong_penalty(lengths: Int[Array, "B"], settings: RewardSettings) -> Float[Array, "B"]:
    """Returns 0 up to L_max - buffer tokens, and from there a line down to -1 at L_max (DAPO, eq. 13)."""
    free = settings.max_length - settings.overlong_buffer
    return jnp.clip((free - lengths.astype(jnp.float32)) / settings.overlong_buffer, -1.0, 0.0)


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
