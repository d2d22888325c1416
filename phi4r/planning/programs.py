"""All programs of an experiment, with the shapes that they get in its loop."""

import pathlib
from collections.abc import Callable, Sequence

import jax

from phi4r.checkpoint.hf_files import CONFIG_FILE
from phi4r.errors import UserError
from phi4r.model.config import PHI4_REASONING, ModelConfig
from phi4r.planning.experiment import Experiment
from phi4r.planning.grpo_programs import GrpoPrograms
from phi4r.planning.program import Program
from phi4r.planning.sft_programs import SftPrograms
from phi4r.sharding import make_mesh
from phi4r.train.setup import read_model_config


def make_programs(
    experiment: Experiment, devices: Sequence[jax.Device]
) -> tuple[ModelConfig, dict[str, Callable[[], Program]]]:
    """Returns the shape of the model, and for every program of the experiment what makes it.

    Args:
      experiment: what is planned; where there is no folder `init_from`, the model is Phi-4-reasoning's.
      devices: all of the topology.

    Raises:
      UserError: for a mesh or a batch that does not divide.
    """
    settings = experiment.settings
    length = row_length(experiment)
    config = model_config(experiment).for_length(length)
    if length > config.max_positions:
        raise UserError(f"rows of {length} tokens, but the model was made for {config.max_positions} positions.")
    mesh = make_mesh(settings.mesh, devices, heads=config.heads)
    made = (SftPrograms if experiment.kind == "sft" else GrpoPrograms)(settings, config, mesh)
    return config, made.programs()


def row_length(experiment: Experiment) -> int:
    """Returns the tokens of a row of training."""
    settings = experiment.settings
    if experiment.kind == "sft":
        return settings.data.row_length
    return settings.sampler.prompt_length + settings.sampler.max_response


def has_model(experiment: Experiment) -> bool:
    """Whether the folder of the model is there."""
    return (pathlib.Path(experiment.settings.init_from) / CONFIG_FILE).is_file()


def model_config(experiment: Experiment) -> ModelConfig:
    """Returns the shape of the model: that of its folder or, where there is none, of Phi-4-reasoning."""
    settings = experiment.settings
    if has_model(experiment):
        return read_model_config(settings.init_from, settings.model)
    return settings.model.apply(PHI4_REASONING)
