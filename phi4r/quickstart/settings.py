"""What the quickstart does, as settings; `configs/quickstart.py` holds the values and says why."""

import dataclasses

from phi4r.evals.experiment import EvalSettings
from phi4r.model.config import ModelConfig
from phi4r.rl.train import GrpoRunSettings
from phi4r.train.sft import SftSettings


@dataclasses.dataclass(frozen=True)
class ProblemSettings:
    """Task specs (`phi4r.evals.specs`) of generated problems that are made before the training, in WORKDIR/problems.

    A spec without `seed=` gets the seed of the quickstart. Splits are disjoint, so what is trained on is never asked
    in the evaluation.

    Attributes:
      sft: problems that the task's solver writes thoughts for; SFT reads them from
        "tfds:quickstart_sft/train@{workdir}/problems/data".
      test: problems that are evaluated on; the report shows the first.
      rl: problems for GRPO, which reads them from "tfds:quickstart_rl/train@{workdir}/problems/data"; empty where
        `grpo.task` is generated while it trains, without end.
      dev: problems to watch training by; empty where the probes' tasks are generated too.
    """

    sft: str
    test: str
    rl: str = ""
    dev: str = ""


@dataclasses.dataclass(frozen=True)
class QuickstartSettings:
    """A config of the quickstart. The seeds of all parts are `seed`.

    Attributes:
      base: shape of the base model: fields of `ModelConfig`, but for the vocabulary, which the tokenizer gives.
      problems: the sets of problems.
      about: what the task is and how the sets differ, for the report.
      sft: supervised fine-tuning of the base on the solver's traces.
      grpo: reinforcement learning of the result.
      evaluation: how each model is evaluated at temperature 0.8; greedy decoding is added.
      seed: of problems, weights and sampling.
      controls: also run GRPO with a plain right-or-wrong reward (what does the length term add?), and SFT for as long
        as GRPO took (what would more of the same have brought?).
      length_note: said of the curves of GRPO in the report.
    """

    base: dict[str, int | float]
    problems: ProblemSettings
    about: str
    sft: SftSettings
    grpo: GrpoRunSettings
    evaluation: EvalSettings
    seed: int = 0
    controls: bool = False
    length_note: str = ""

    def base_config(self, vocab_size: int) -> ModelConfig:
        """Returns the shape of the base: as phi-4 before its context was extended, but small."""
        return ModelConfig(vocab_size=vocab_size, **self.base)
