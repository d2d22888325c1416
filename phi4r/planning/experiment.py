"""The experiment that is planned: a config file with its overrides, read as `phi4r.main` reads it."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from phi4r.errors import UserError
from phi4r.rl.train import GrpoRunSettings
from phi4r.settings import build, let_configs_import
from phi4r.train.sft import SftSettings

SETTINGS = {"sft": SftSettings, "grpo": GrpoRunSettings}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What is planned.

    Attributes:
      kind: "sft" or "grpo".
      sections: the config as plain data, with its overrides.
      settings: the same, checked.
    """

    kind: str
    sections: dict[str, Any]
    settings: SftSettings | GrpoRunSettings

    def replace(self, changes: dict[str, Any]) -> "Experiment":
        """Returns the experiment with other values for some dotted names (`mesh.fsdp`)."""
        sections = _copy(self.sections)
        for name, value in changes.items():
            *path, key = name.split(".")
            section = sections
            for part in path:
                section = section.setdefault(part, {})
            section[key] = value
        return make_experiment(sections)


def make_experiment(sections: dict[str, Any]) -> Experiment:
    """Checks a config and turns it into an Experiment.

    Raises:
      UserError: for an experiment without a plan, or a value that does not fit.
    """
    values = dict(sections)
    kind = values.pop("experiment", None)
    if kind not in SETTINGS:
        raise UserError(f"config.experiment is {kind!r}; plans are made for {' and '.join(SETTINGS)}.")
    return Experiment(kind, sections, build(SETTINGS[kind], values, where="config"))


def read_experiment(config_file: str, overrides: Sequence[str]) -> Experiment:
    """Reads a config file and applies overrides.

    Args:
      config_file: `configs/NAME.py` or `configs/NAME.py:ARG`.
      overrides: flags as `--config.mesh.fsdp=8`.

    Raises:
      UserError: for a file that cannot be read or an override that does not fit.
    """
    from absl import flags
    from ml_collections import config_flags

    path = pathlib.Path(config_file.rsplit(".py:", 1)[0] + (".py" if ".py:" in config_file else ""))
    if not path.is_file():
        raise UserError(f"there is no config file {path}; give --config=configs/NAME.py[:ARG].")
    argv = ["plan", f"--config={config_file}", *overrides]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file(
        "config", lock_config=False, accept_new_attributes=True, flag_values=values, sys_argv=argv
    )
    let_configs_import()
    try:
        rest = values(argv)
        sections = holder.value.to_dict()
    except (flags.Error, ImportError, AttributeError, KeyError, TypeError, ValueError) as error:
        # A config file that raises has its traceback in the message, and the reason in the last line.
        raise UserError(f"{config_file}: {str(error).strip().splitlines()[-1]}") from error
    if len(rest) > 1:
        raise UserError(f"{rest[1]!r} is not a flag; write overrides as --config.section.key=value.")
    return make_experiment(_copy(sections))


def _copy(values: Any) -> Any:
    """Returns nested sections as plain lists and dicts."""
    if isinstance(values, dict):
        return {key: _copy(value) for key, value in values.items()}
    return [_copy(value) for value in values] if isinstance(values, list | tuple) else values
