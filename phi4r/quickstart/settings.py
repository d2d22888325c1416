"""What the quickstart does, as settings; `configs/quickstart.py` holds the values and says why."""

import dataclasses

from phi4r.errors import UserError
from phi4r.evals.experiment import EvalSettings
from phi4r.model.config import ModelConfig
from phi4r.rl.train import GrpoRunSettings
from phi4r.train.sft import SftSettings


@dataclasses.dataclass(frozen=True)
class ProblemSettings:
    """Sets of arithmetic chains (`phi4r.evals.chains`), drawn from disjoint splits.

    Attributes:
      num_sft: chains with solver-written thoughts, for SFT.
      sft_ops: fewest and most operations of those.
      num_rl: chains without thoughts, for GRPO.
      num_dev: chains to watch training by.
      num_test: chains to report on.
      rl_ops: fewest and most operations of the chains of GRPO, dev and test: past what SFT teaches.
    """

    num_sft: int
    num_rl: int
    num_dev: int
    num_test: int
    sft_ops: tuple[int, ...]
    rl_ops: tuple[int, ...]

    def __post_init__(self):
        for name in ("sft_ops", "rl_ops"):
            if len(getattr(self, name)) != 2:
                raise UserError(f"problems.{name} must be two numbers, the fewest and the most operations.")


@dataclasses.dataclass(frozen=True)
class QuickstartSettings:
    """A config of the quickstart. The seeds of all parts are `seed`.

    Attributes:
      base: shape of the base model: fields of `ModelConfig`, but for the vocabulary, which the tokenizer gives.
      problems: the sets of problems.
      sft: supervised fine-tuning of the base on the solver's traces.
      grpo: reinforcement learning of the result on longer chains.
      evaluation: how each model is evaluated at temperature 0.8; greedy decoding is added.
      seed: of problems, weights and sampling.
      controls: also run GRPO with a plain right-or-wrong reward (what does the length term add?), and SFT for as long
        as GRPO took (what would more of the same have brought?).
    """

    base: dict[str, int | float]
    problems: ProblemSettings
    sft: SftSettings
    grpo: GrpoRunSettings
    evaluation: EvalSettings
    seed: int = 0
    controls: bool = False

    def base_config(self, vocab_size: int) -> ModelConfig:
        """Returns the shape of the base: as phi-4 before its context was extended, but small."""
        return ModelConfig(vocab_size=vocab_size, **self.base)
