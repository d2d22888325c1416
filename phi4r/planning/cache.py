"""What was compiled before, so that nothing is compiled twice.

An entry is a folder named by a hash of all that decides the result: the lowered program, the topology and the order of
its devices, the versions of the compiler. It holds what the compiler said, raw; the reading of it may change.

    FOLDER/<hash>/compiled.json       sizes, seconds, the refusal if there was one
    FOLDER/<hash>/program.txt.gz      the compiled text
    FOLDER/<hash>/buffers.txt.gz      the compiler's report of its buffer assignment
"""

import dataclasses
import gzip
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Sequence

from phi4r.errors import UserError


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler made of a program for one device.

    Attributes:
      sizes: bytes: "argument", "output" (without what takes over an argument), "temporary", "code" and "host"; empty
        where it refused.
      seconds: that it took.
      refusal: why it did not compile, or None.
      text: the compiled program; empty where there is none.
      buffers: its buffer assignment; empty where there is none.
    """

    sizes: dict[str, int]
    seconds: float
    refusal: str | None
    text: str = ""
    buffers: str = ""


def default_folder() -> pathlib.Path:
    """Returns $XDG_CACHE_HOME/phi4r/plan, or ~/.cache/phi4r/plan."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(base) if base else pathlib.Path.home() / ".cache") / "phi4r" / "plan"


def program_hash(stablehlo: str, topology: str, devices: Sequence[int], compiler: str) -> str:
    """Returns the name of a program's entry.

    Args:
      stablehlo: the lowered program, without locations.
      topology: its name.
      devices: ids in the order of the mesh.
      compiler: versions.
    """
    digest = hashlib.sha256()
    for part in (stablehlo, topology, json.dumps(list(map(int, devices))), compiler):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:32]


def load(folder: pathlib.Path, name: str) -> Compiled | None:
    """Returns an entry; None where there is none, or only a damaged one."""
    entry = folder / name
    try:
        fields = json.loads((entry / "compiled.json").read_text())
        texts = {key: gzip.decompress((entry / f"{file}.txt.gz").read_bytes()).decode() for key, file in _TEXTS.items()}
        return Compiled(**fields, **texts)
    except (OSError, ValueError, TypeError, EOFError):
        return None


def save(folder: pathlib.Path, name: str, compiled: Compiled) -> None:
    """Writes an entry, whole or not at all.

    Raises:
      UserError: if the folder cannot be written.
    """
    fields = dataclasses.asdict(compiled)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = pathlib.Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
        for key, file in _TEXTS.items():
            (partial / f"{file}.txt.gz").write_bytes(gzip.compress(fields.pop(key).encode(), compresslevel=3))
        (partial / "compiled.json").write_text(json.dumps(fields, indent=1))
        shutil.rmtree(folder / name, ignore_errors=True)
        partial.replace(folder / name)
    except OSError as error:
        raise UserError(f"cannot write to the cache {folder}: {error.strerror}; choose another --cache.") from error


_TEXTS = {"text": "program", "buffers": "buffers"}
