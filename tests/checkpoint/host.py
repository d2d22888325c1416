"""One host of two: python host.py COORDINATOR INDEX FOLDER

Loads FOLDER/hf and FOLDER/orbax on a mesh over both hosts, saves what it loaded in both forms, lets the first host fail
to write, and leaves what it saw in FOLDER/host<INDEX>.json.
"""

import errno
import json
import os
import pathlib
import sys

os.environ["JAX_PLATFORMS"] = "cpu"

from phi4r import hosts
from phi4r.checkpoint import release
from phi4r.checkpoint.params_store import ParamsFolder
from phi4r.checkpoint.safetensors_reader import SafetensorsFolder
from phi4r.checkpoint.safetensors_writer import SafetensorsWriter
from phi4r.errors import UserError
from phi4r.sharding import MeshSettings, make_mesh


def count_bytes(source: type) -> list[int]:
    """Returns the sizes of all parts that `source` is asked for from now on."""
    sizes = []
    real = source.read_part

    def read_part(self, *args):
        out = real(self, *args)
        sizes.append(out.nbytes)
        return out

    source.read_part = read_part
    return sizes


def file_bytes() -> int:
    """Returns how many bytes this process has read from files by system calls."""
    return int(pathlib.Path("/proc/self/io").read_text().split()[1])


def fail_on_first_host() -> None:
    real = SafetensorsWriter.write_rows

    def write_rows(self, piece, rows):
        if hosts.is_primary():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, piece, rows)

    SafetensorsWriter.write_rows = write_rows


def run(coordinator: str, index: str, folder: pathlib.Path) -> None:
    hosts.join_hosts(coordinator, num_processes=2, process_id=int(index))
    mesh = make_mesh(MeshSettings(fsdp=8))
    seen = {}
    for form, source in (("hf", SafetensorsFolder), ("orbax", ParamsFolder)):
        sizes, before = count_bytes(source), file_bytes()
        loaded = release.load_model(folder / form, mesh=mesh)
        seen[form] = {"asked": sum(sizes), "read": file_bytes() - before}
    release.save_hf_folder(folder / "hf2", loaded.params, config=loaded.config, source_folder=folder / "orbax")
    release.save_params(folder / "orbax2", loaded.params, config=loaded.config, source_folder=folder / "orbax")
    seen["errors"] = []
    fail_on_first_host()
    for name in ("hf2", "hf3"):  # taken; and a full disk
        try:
            release.save_hf_folder(folder / name, loaded.params, config=loaded.config)
        except UserError as error:
            seen["errors"].append(str(error))
    (folder / f"host{index}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]))
