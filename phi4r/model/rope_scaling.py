"""Running past the positions that a model was made for: the named scalings of rotary frequencies.

Linear interpolation (arXiv 2306.15595), NTK-aware scaling, YaRN (arXiv 2309.00071) and longrope (arXiv 2402.13753) all
come down to one divisor for each rotated frequency and one factor on cos and sin. So an angle depends on the position
alone: training, prefill and decoding rotate alike, and the keys of a cache stay right however long a row grows.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from phi4r.errors import UserError

Scaling = Literal["stored", "none", "linear", "ntk", "yarn", "longrope"]


@dataclasses.dataclass(frozen=True)
class LongRope:
    """Divisors of the rotary frequencies, one for each pair: those of Phi-3-long and Phi-4-mini, and the named ones.

    Attributes:
      short_factor: divisors of the frequencies for sequences up to the original length, one for each pair.
      long_factor: the same for longer sequences.
      original_max_positions: the context length before the extension.
      use: which factors to take. "auto" decides by the longest sequence of the call (as Hugging Face does); a
        policy that samples must fix "short" or "long", or the sampler and the trainer could disagree.
      attention_factor: factor on cos and sin; None for `longrope_attention_factor`.
    """

    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    original_max_positions: int
    use: Literal["auto", "short", "long"] = "auto"
    attention_factor: float | None = None


@dataclasses.dataclass(frozen=True)
class RopeSettings:
    """How a run goes past the positions of a model that was not made for so many; not in the paper.

    Attributes:
      scaling: "stored" as the model folder says; "none" more positions at unchanged frequencies; "linear" divides all
        frequencies by `factor`; "ntk" the slowest by `factor` and the fastest by 1, geometrically between; "yarn" those
        that turn less than once in the original context by `factor`, and those that turn 32 times by 1; "longrope" by
        the factors given here.
      factor: positions, as a multiple of the model's own: 2.0 takes 32,768 to 65,536.
      short_factor: of "longrope", one for each rotated pair.
      long_factor: of "longrope", for sequences longer than the model's own positions.
    """

    scaling: Scaling = "stored"
    factor: float = 1.0
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()

    def __post_init__(self):
        if self.factor < 1.0 or not math.isfinite(self.factor):
            raise UserError(
                f"rope.factor={self.factor:g} must be at least 1: it multiplies the positions of the model."
            )
        if self.scaling == "stored" and self.factor != 1.0:
            raise UserError(f"rope.factor={self.factor:g} needs rope.scaling: none, linear, ntk, yarn or longrope.")
        if self.scaling in ("linear", "ntk", "yarn", "longrope") and self.factor == 1.0:
            raise UserError(f"rope.scaling={self.scaling} needs rope.factor above 1, as 2.0 for twice the positions.")
        given = bool(self.short_factor), bool(self.long_factor)
        if given != ((True, True) if self.scaling == "longrope" else (False, False)):
            raise UserError("rope.short_factor and rope.long_factor are the divisors of rope.scaling=longrope: both.")

    def divisors(self, *, rotary_dim: int, theta: float, original: int) -> LongRope | None:
        """Returns the scaling of a model with `original` positions, or None where its frequencies stay.

        Args:
          rotary_dim: dimensions of a head that are rotated.
          theta: base of the frequencies.
          original: positions that the model was made for.
        """
        if self.scaling == "linear":
            return uniform((self.factor,) * (rotary_dim // 2), original)
        if self.scaling == "ntk":
            return uniform(ntk_divisors(rotary_dim, self.factor), original)
        if self.scaling == "yarn":
            divisors = yarn_divisors(rotary_dim, theta, self.factor, original)
            return uniform(divisors, original, yarn_attention_factor(self.factor))
        if self.scaling == "longrope":
            return LongRope(self.short_factor, self.long_factor, original)
        return None


def uniform(divisors: tuple[float, ...], original: int, attention_factor: float = 1.0) -> LongRope:
    """Returns a scaling that is the same for sequences of every length."""
    return LongRope(divisors, divisors, original, attention_factor=attention_factor)


def ntk_divisors(rotary_dim: int, factor: float) -> tuple[float, ...]:
    """Returns factor^(2i / (d - 2)) for each pair i of d / 2, which is theta * factor^(d / (d - 2)) in place of theta.

    The fastest frequency stays and the slowest is divided by `factor`. What Hugging Face calls "dynamic" takes for
    `factor` the ratio that the current row has reached; the keys of a cache would then be of several ratios.
    """
    return tuple(factor ** (2 * i / (rotary_dim - 2)) for i in range(rotary_dim // 2))


def yarn_divisors(
    rotary_dim: int,
    theta: float,
    factor: float,
    original: int,
    *,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    truncate: bool = True,
) -> tuple[float, ...]:
    """Returns the divisors of YaRN's "NTK-by-parts" (section 3.2), from 1 for fast pairs to `factor` for slow ones.

    Args:
      rotary_dim: d.
      theta: base of the frequencies.
      factor: s, by which pairs are divided that turn fewer than `beta_slow` times in the original context.
      original: L, the positions before the extension.
      beta_fast: turns in the original context from which on a pair keeps its frequency.
      beta_slow: turns up to which it is interpolated in full.
      truncate: whether the ends of the ramp between both are rounded outwards to whole pairs.
    """

    def pair_of(turns: float) -> float:
        """Which pair turns so many times in L positions: L theta^(-2i/d) = 2 pi turns."""
        return rotary_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_of(beta_fast), pair_of(beta_slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary_dim - 1)
    width = high - low or 0.001  # as the reference: no ramp is a step
    ramp = (min(max((i - low) / width, 0.0), 1.0) for i in range(rotary_dim // 2))
    return tuple(1.0 / (share / factor + 1.0 - share) for share in ramp)


def yarn_attention_factor(factor: float) -> float:
    """The factor of YaRN on cos and sin, the square root of its softmax temperature: 0.1 ln(s) + 1 (section 3.4)."""
    return 0.1 * math.log(factor) + 1.0


def longrope_attention_factor(max_positions: float, original: int) -> float:
    """The factor on cos and sin under longrope: sqrt(1 + ln(max / original) / ln(original)); 1 if not extended."""
    scale = max_positions / original
    return 1.0 if scale <= 1.0 else math.sqrt(1.0 + math.log(scale) / math.log(original))


# Hugging Face


def read_hf_rope(rope: Mapping[str, Any], original: int, *, rotary_dim: int, theta: float) -> LongRope | None:
    """Returns the scaling of a config.json.

    Args:
      rope: its fields of `rope_scaling` and `rope_parameters`.
      original: positions before the extension.
      rotary_dim: dimensions of a head that are rotated.
      theta: base of the frequencies.

    Raises:
      UserError: for a scaling that this decoder does not have.
    """
    kind = rope.get("rope_type", rope.get("type", "default"))
    if "long_factor" in rope:  # whatever the type: older files of Phi-3 say "su" or "yarn"
        factor = rope.get("attention_factor")
        if factor is None and rope.get("factor") is not None:
            factor = longrope_attention_factor(rope["factor"] * original, original)
        return LongRope(tuple(rope["short_factor"]), tuple(rope["long_factor"]), original, attention_factor=factor)
    if kind == "linear":
        return uniform((float(rope["factor"]),) * (rotary_dim // 2), original)
    if kind == "yarn":
        return _read_yarn(rope, original, rotary_dim=rotary_dim, theta=theta)
    if kind == "dynamic":
        raise UserError(
            "config.json has rope scaling 'dynamic', whose angles change while a row grows; set rope_scaling to null "
            "and run with rope.scaling=ntk and a fixed rope.factor."
        )
    if kind != "default":
        raise UserError(f"config.json has rope scaling {kind!r}; this decoder has linear, yarn and longrope.")
    return None


def _read_yarn(rope: Mapping[str, Any], original: int, *, rotary_dim: int, theta: float) -> LongRope:
    """Returns the divisors of a YaRN of Hugging Face."""
    for key in ("mscale", "mscale_all_dim"):
        if rope.get(key):
            raise UserError(f"config.json has a yarn {key}; this decoder takes attention_factor or 0.1 ln(factor) + 1.")
    divisors = yarn_divisors(
        rotary_dim,
        theta,
        rope["factor"],
        original,
        beta_fast=rope.get("beta_fast") or 32.0,
        beta_slow=rope.get("beta_slow") or 1.0,
        truncate=rope.get("truncate", True),
    )
    attention_factor = rope.get("attention_factor")
    if attention_factor is None:
        attention_factor = yarn_attention_factor(rope["factor"])
    return uniform(divisors, original, attention_factor)


def write_hf_rope(longrope: LongRope | None) -> dict[str, Any] | None:
    """Returns `rope_scaling` of a config.json: as longrope, the one kind that model type phi3 knows."""
    if longrope is None:
        return None
    values = {
        "type": "longrope",
        "short_factor": list(longrope.short_factor),
        "long_factor": list(longrope.long_factor),
    }
    if longrope.attention_factor is not None:
        # The last two are its names outside of transformers, where it would be computed instead.
        values.update(dict.fromkeys(("attention_factor", "short_mscale", "long_mscale"), longrope.attention_factor))
    return values
