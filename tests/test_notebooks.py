"""Notebooks: stored without outputs, naming only what exists, and running top to bottom without the network.

The code cells of each notebook are run as one plain script in a folder of links to the repository, so that a run which
a notebook trains lies there, and a run of the repository's own is not read.
"""

import ast
import importlib
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).parent.parent
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
TIMEOUT_S = 300  # on a busy machine; about 15, 5 and 40 seconds of one core otherwise

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: pathlib.Path, kind: str) -> list[str]:
    """The sources of the cells of one kind."""
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def test_it_is_a_notebook_of_format_4_without_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[\w-]{1,64}", name) for name in ids)
    for cell in notebook["cells"]:
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert cell["cell_type"] in ("code", "markdown")
        assert cell.keys() == {"cell_type", "id", "metadata", "source"} | code
        assert "".join(cell["source"]).strip()
        if code:
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_the_first_cell_says_what_it_does_and_how_long_it_takes(path):
    first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]
    text = "".join(first["source"])
    assert first["cell_type"] == "markdown" and text.startswith("# ")
    assert re.search(r"seconds|minute", text) and "network" in text


def test_every_import_names_what_exists(path):
    imports = 0
    for source in cells(path, "code"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    assert importlib.util.find_spec(alias.name), alias.name
            elif isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] in ("phi4r", "configs"):
                imports += 1
                for alias in node.names:
                    assert _exists(node.module, alias.name), f"{node.module}.{alias.name}"
    assert imports


def _exists(module: str, name: str) -> bool:
    loaded = importlib.import_module(module)
    return hasattr(loaded, name) or importlib.util.find_spec(f"{module}.{name}") is not None


def test_every_tool_that_it_names_exists(path):
    from phi4r.tools.cli import COMMANDS

    text = "\n".join(cells(path, "markdown"))
    assert set(re.findall(r"(?:`|^ {4})phi4r ([a-z-]+)", text, re.MULTILINE)) <= COMMANDS.keys()
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z]+)`", text):
        assert f"\n{target}:" in makefile


def test_it_runs_top_to_bottom(path, tmp_path):
    pytest.importorskip("IPython", reason="IPython shows the figures; pip install -e .[notebooks]")
    for name in ("phi4r", "configs"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    folder = tmp_path / "notebooks"
    folder.mkdir()
    script = folder / "cells.py"
    script.write_text("\n\n".join(cells(path, "code")), encoding="utf-8")
    # One device, unless the notebook asks for more: that is how a user's kernel starts.
    env = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "PHI4R_RUN")} | {"MPLBACKEND": "agg"}
    result = subprocess.run(
        [sys.executable, script.name], cwd=folder, env=env, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.strip()
