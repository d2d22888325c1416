"""What a finished run leaves beside its checkpoints: parameters, adapters, and a Hugging Face folder if asked for."""

import pathlib
import shutil

from phi4r.checkpoint.peft import save_peft_folder
from phi4r.checkpoint.release import save_hf_folder, save_params
from phi4r.hosts import as_primary, is_primary, wait_for_all
from phi4r.train.parameters import Parameters
from phi4r.typing import Params

PARAMS_FOLDER, HF_FOLDER, ADAPTER_FOLDER = "params", "hf", "adapter"


def remove_results(workdir: pathlib.Path) -> None:
    """Removes the results of a shorter run in the same workdir, so that results always belong to the last step."""
    if is_primary():
        for name in (PARAMS_FOLDER, HF_FOLDER, ADAPTER_FOLDER):
            shutil.rmtree(workdir / name, ignore_errors=True)
    wait_for_all("results of a shorter run removed")


def write_results(
    workdir: pathlib.Path,
    trained: Params,
    parameters: Parameters,
    *,
    source_folder: str,
    export_dtype: str | None,
) -> None:
    """Writes WORKDIR/params, WORKDIR/hf if `export_dtype` is given, and adapters, unless they are there already.

    Args:
      workdir: of the run.
      trained: the final trained part, on any mesh.
      parameters: whose trained part it is; adapters are merged for `params` and `hf`.
      source_folder: the model that training started from, whose tokenizer and config go along.
      export_dtype: dtype of the Hugging Face folder; None writes none.
    """
    names = [PARAMS_FOLDER] + [HF_FOLDER] * (export_dtype is not None) + [ADAPTER_FOLDER] * parameters.has_adapter
    missing = [name for name in names if not as_primary((workdir / name).exists())]
    if ADAPTER_FOLDER in missing:
        save_peft_folder(workdir / ADAPTER_FOLDER, trained, config=parameters.config, base_folder=source_folder)
    if not {PARAMS_FOLDER, HF_FOLDER} & set(missing):
        return
    params, config = parameters.merged(trained), parameters.config.replace(lora=None)
    if PARAMS_FOLDER in missing:
        save_params(workdir / PARAMS_FOLDER, params, config=config, source_folder=source_folder)
    if HF_FOLDER in missing:
        save_hf_folder(workdir / HF_FOLDER, params, config=config, source_folder=source_folder, dtype=export_dtype)
