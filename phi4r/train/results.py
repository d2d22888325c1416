"""What a finished run leaves beside its checkpoints: the parameters, and a Hugging Face folder if asked for."""

import pathlib
import shutil

from phi4r.checkpoint.release import save_hf_folder, save_params
from phi4r.hosts import as_primary, is_primary, wait_for_all
from phi4r.model.config import ModelConfig
from phi4r.typing import Params

PARAMS_FOLDER, HF_FOLDER = "params", "hf"


def remove_results(workdir: pathlib.Path) -> None:
    """Removes the results of a shorter run in the same workdir, so that results always belong to the last step."""
    if is_primary():
        for name in (PARAMS_FOLDER, HF_FOLDER):
            shutil.rmtree(workdir / name, ignore_errors=True)
    wait_for_all("results of a shorter run removed")


def write_results(
    workdir: pathlib.Path,
    params: Params,
    *,
    config: ModelConfig,
    source_folder: str,
    export_dtype: str | None,
) -> None:
    """Writes WORKDIR/params, and WORKDIR/hf if `export_dtype` is given, unless they are there already.

    Args:
      workdir: of the run.
      params: the final parameters, on any mesh.
      config: their shape.
      source_folder: the model that training started from, whose tokenizer and config go along.
      export_dtype: dtype of the Hugging Face folder; None writes none.
    """
    if not as_primary((workdir / PARAMS_FOLDER).exists()):
        save_params(workdir / PARAMS_FOLDER, params, config=config, source_folder=source_folder)
    if export_dtype is not None and not as_primary((workdir / HF_FOLDER).exists()):
        save_hf_folder(workdir / HF_FOLDER, params, config=config, source_folder=source_folder, dtype=export_dtype)
