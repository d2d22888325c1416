"""A real OpenAI-compatible server of a small real model: `transformers serve`, started and ended by its user."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

START_S = 120.0


@contextlib.contextmanager
def transformers_server(
    model: pathlib.Path, log: pathlib.Path, *, threads: int = 1, batching: bool = False
) -> Iterator[str]:
    """Gives the base URL of a server of a Hugging Face folder; it ends with the block, however that ends.

    Args:
      model: the folder; requests name it as their model.
      log: file for what the server says.
      threads: of its matrix products.
      batching: whether requests share its steps, or are answered one after the other.

    Raises:
      RuntimeError: if it does not come up.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [pathlib.Path(sys.executable).with_name("transformers"), "serve", model, "--host", "127.0.0.1"]
    if batching:
        command += ["--continuous-batching", "--cb-num-blocks", "256"]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    with log.open("w") as file:
        process = subprocess.Popen(
            [*map(str, command), "--port", str(port), "--device", "cpu", "--dtype", "float32"],
            env=env,
            stdout=file,
            stderr=file,
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()
            process.wait()


def _wait_for(url: str, process: subprocess.Popen, log: pathlib.Path) -> None:
    """Returns when the server is ready."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    raise RuntimeError(f"the server was not ready in {START_S:g} s: {log.read_text()[-2000:]}")
