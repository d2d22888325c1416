"""Several hosts as one program: joining them, and what they have to agree on.

Every host runs the same code on the same arrays (multi-controller JAX). Device arrays are global; what is made on the
host (texts, verdicts) exists where it was made, and is passed around as JSON.
"""

import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from phi4r.errors import UserError


def join_hosts(coordinator: str, *, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Joins this process to the others of its run; to be called before anything asks for a device.

    Args:
      coordinator: "auto" on a TPU slice, under Slurm or Open MPI, which say what is to be known; else HOST:PORT of the
        first process.
      num_processes: how many there are; known under "auto".
      process_id: which this is, from 0; known under "auto".

    Raises:
      UserError: if the others cannot be found or reached.
    """
    address = None if coordinator == "auto" else coordinator
    if (num_processes is None or process_id is None) and address is not None:
        raise UserError("with --coordinator=HOST:PORT give --num_processes and --process_id too.")
    try:
        jax.distributed.initialize(address, num_processes, process_id)
    except (ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"the hosts of --coordinator={coordinator} did not come together: {reason}") from error


def is_primary() -> bool:
    """Whether this process is the one that writes what is written once."""
    return jax.process_index() == 0


def to_host(tree: Any) -> Any:
    """Returns a tree of global device arrays as whole numpy arrays on every host."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    return jax.tree.map(lambda x: np.asarray(multihost_utils.process_allgather(x, tiled=True)), tree)


def host_slice(num_items: int) -> slice:
    """Returns which of `num_items` this host takes, where each takes an equal part, in order."""
    bounds = np.linspace(0, num_items, jax.process_count() + 1).astype(int)
    return slice(int(bounds[jax.process_index()]), int(bounds[jax.process_index() + 1]))


def gather(items: list[Any]) -> list[Any]:
    """Returns the JSON values of all hosts, in the order of hosts, on every host."""
    if jax.process_count() == 1:
        return items
    data = np.frombuffer(json.dumps(items).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.asarray([data.size])).reshape(-1)
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: data.size] = data
    rows = multihost_utils.process_allgather(padded)
    return [item for row, size in zip(rows, sizes, strict=True) for item in json.loads(row[:size].tobytes())]


def as_primary(value: Any) -> Any:
    """Returns the first host's JSON value on every host: for what only it can know, or all must take alike."""
    return gather([value])[0]


def wait_for_all(what: str) -> None:
    """Returns when every host has come here; `what` names the place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"phi4r: {what}")
