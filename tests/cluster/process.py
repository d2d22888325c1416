"""One process of a cluster: python process.py COORDINATOR NUM_PROCESSES INDEX CONFIGS.json WORKDIR

Runs every experiment of CONFIGS.json (name -> config) in WORKDIR/name, as `phi4r.main` would.
"""

import json
import os
import pathlib
import sys
import traceback

os.environ["JAX_PLATFORMS"] = "cpu"

from ml_collections import ConfigDict

from phi4r.hosts import join_hosts
from phi4r.main import run_experiment


def run(coordinator: str, num_processes: str, index: str, configs: str, workdir: str) -> None:
    join_hosts(coordinator, num_processes=int(num_processes), process_id=int(index))
    for name, config in json.loads(pathlib.Path(configs).read_text()).items():
        run_experiment(ConfigDict(config), pathlib.Path(workdir) / name)


if __name__ == "__main__":
    try:
        run(*sys.argv[1:])
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # without the exit handler of jax, which would wait for the other process
