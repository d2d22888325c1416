"""What makes two runs the same run: compared on a resume, so that nobody goes on with another experiment by mistake.

It is what decides the result: settings, the shape and dtypes of the model, the files that it started from. What only
decides how the same result is computed may change from one start to the next: devices, mesh, micro-batches, chunks,
recomputation, attention backend. Rounding then differs, and the run is equal to about 1e-6 instead of bit for bit.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from phi4r.model.config import ModelConfig

HOW_NOT_WHAT = ("attention", "remat")  # fields of ModelConfig that leave the mathematics alone
SAMPLED_BYTES = 1 << 16


def run_identity(settings: Any, config: ModelConfig, names: Sequence[str], **others: Any) -> dict[str, Any]:
    """Returns JSON values to be stored with every checkpoint and compared on a resume.

    Args:
      settings: dataclass of the run, with `init_from`.
      config: shape and numerics of the model.
      names: fields of `settings` that decide the result.
      others: more of them, as the digest of a set of problems.
    """
    values = dataclasses.asdict(settings)
    model = {name: value for name, value in dataclasses.asdict(config).items() if name not in HOW_NOT_WHAT}
    chosen = {name: values[name] for name in names}
    return {"model": model, **chosen, **others, "init_from_digest": folder_digest(settings.init_from)}


def folder_digest(folder: str | os.PathLike) -> str:
    """Returns a digest of names, sizes, first and last 64 KiB of all files: another model has another one.

    It does not depend on where the folder is, and takes no time even for 30 GB.
    """
    folder, digest = pathlib.Path(folder), hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(SAMPLED_BYTES))
            file.seek(max(0, size - SAMPLED_BYTES))
            digest.update(file.read(SAMPLED_BYTES))
    return digest.hexdigest()[:16]
