"""Conversion of a model of Phi-4's shape to Orbax and back, against `cp` of the same folder to the same disk.

    python -m benchmarks.convert_vs_cp --layers=8 --scratch=/fast/disk/convert

Writes a Hugging Face folder of random bfloat16 weights (29.3 GB with all 40 layers), copies it with `cp`, converts it
to Orbax, converts that back, and compares the checksum of every file with the source. Each of the three runs as a
process of its own and ends when its data are on the disk (fsync); before each the page cache is dropped, where that is
permitted, so that sources are read from the disk. No more than two copies of the folder exist at a time, and none at
the end.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np

from phi4r.checkpoint.hf_layout import hf_leaves
from phi4r.checkpoint.pieces import tensor_pieces, tensor_specs
from phi4r.checkpoint.safetensors_writer import SafetensorsWriter
from phi4r.checkpoint.shards import DTYPES, default_layout
from phi4r.model.config import PHI4

CONVERT = "import sys; from phi4r.checkpoint import convert; getattr(convert, sys.argv[1])(sys.argv[2], sys.argv[3])"
COPY = (
    "import os, pathlib, subprocess, sys; subprocess.run(['cp', '-r', *sys.argv[1:]], check=True)\n"
    "for path in pathlib.Path(sys.argv[2]).rglob('*'):\n"
    "    file = os.open(path, os.O_RDONLY); os.fsync(file); os.close(file)"
)


def write_random_folder(folder: pathlib.Path, num_layers: int) -> tuple[int, int]:
    """Writes the source; returns the bytes of all tensors and of the largest one."""
    config = PHI4.replace(num_layers=num_layers)
    leaves = hf_leaves(config, fused=True)
    dtypes = {leaf.path: DTYPES["BF16"] for leaf in leaves}
    specs = tensor_specs(leaves, dtypes)
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**config.to_hf(), "dtype": "bfloat16"}))
    with SafetensorsWriter(folder, default_layout(specs), specs) as writer:
        for cuts in tensor_pieces(leaves, dtypes).values():
            for cut in cuts:
                raw = random.bytes(2 * cut.num_elements)
                writer.write_rows(cut, np.frombuffer(raw, DTYPES["BF16"]).reshape(cut.matrix_shape))
    sizes = [spec.num_bytes for spec in specs.values()]
    return sum(sizes), max(sizes)


def drop_page_cache() -> bool:
    """Empties the page cache, so that sources are read from the disk; returns whether that was permitted."""
    subprocess.run(["sync"], check=True)
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        return False
    return True


def run_measured(code: str, *arguments: pathlib.Path | str) -> tuple[float, int]:
    """Runs Python `code` in a process of its own; returns wall seconds and the most bytes of memory that it held."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(map(str, arguments))}: ended with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


def checksums(folder: pathlib.Path) -> dict[str, str]:
    """Returns the SHA-256 of every file."""
    digests = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def compare(scratch: pathlib.Path, num_layers: int) -> None:
    """Runs the three in turn and prints a table."""
    source, copy, orbax, back = (scratch / name for name in ("source", "copy", "orbax", "back"))
    total, largest = write_random_folder(source, num_layers)
    expected = checksums(source)
    cold = drop_page_cache()
    runs = {"cp -r": run_measured(COPY, source, copy)}
    shutil.rmtree(copy)
    drop_page_cache()
    runs["hf-to-orbax"] = run_measured(CONVERT, "hf_to_orbax", source, orbax)
    shutil.rmtree(source)
    drop_page_cache()
    runs["orbax-to-hf"] = run_measured(CONVERT, "orbax_to_hf", orbax, back)
    shutil.rmtree(orbax)
    if checksums(back) != expected:
        raise SystemExit("the folder that came back is not the source")
    print(
        f"{num_layers} layers, {total / 1e9:.1f} GB, page cache {'dropped' if cold else 'not dropped'}; all files equal"
    )
    print(f"{'':16s}{'s':>8s}{'GB/s':>8s}{'of cp':>8s}{'peak GiB':>10s}{'above the largest tensor':>26s}")
    reference = runs["cp -r"][0]
    for name, (seconds, peak) in runs.items():
        memory = f"{peak / 2**30:10.2f}{(peak - largest) / 2**30:22.2f} GiB" if name != "cp -r" else ""
        print(f"{name:16s}{seconds:8.1f}{total / seconds / 1e9:8.2f}{reference / seconds:7.0%} {memory}")


def main() -> None:
    """Runs the comparison in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8, help="of the 40 of phi-4")
    parser.add_argument("--scratch", type=pathlib.Path, default=pathlib.Path("convert_vs_cp"), help="a new folder")
    args = parser.parse_args()
    args.scratch.mkdir(parents=True)
    try:
        compare(args.scratch, args.layers)
    finally:
        shutil.rmtree(args.scratch)


if __name__ == "__main__":
    main()
