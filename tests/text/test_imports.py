import pathlib
import subprocess
import sys

import phi4r.text

MODULES = ["phi4r.text"] + [
    f"phi4r.text.{p.stem}" for p in sorted(pathlib.Path(phi4r.text.__file__).parent.glob("[a-z]*.py"))
]

CODE = f"""
import sys, time
started = time.perf_counter()
import importlib
for name in {MODULES!r}:
    importlib.import_module(name)
print(time.perf_counter() - started)
print([name for name in ("jax", "numpy", "torch", "transformers") if name in sys.modules])
"""


def test_the_package_imports_within_half_a_second_and_without_jax(repository):
    run = subprocess.run([sys.executable, "-c", CODE], cwd=repository, capture_output=True, text=True, check=True)
    seconds, heavy = run.stdout.splitlines()
    assert float(seconds) < 0.5
    assert heavy == "[]"
