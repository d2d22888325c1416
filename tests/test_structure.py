"""The shape of the code base: the order of its packages, and what it never does."""

import ast
import pathlib
import subprocess
import sys

import pytest

import phi4r

ROOT = pathlib.Path(phi4r.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py"))

# A package imports from lower rows and from itself, never sideways.
ROWS = (
    ("errors",),
    ("typing", "settings", "hosts"),
    ("metrics", "text", "sharding"),
    ("model", "verifiers"),
    ("data", "sampling", "checkpoint"),
    ("evals",),
    ("train",),
    ("rl", "curation"),
    ("planning", "viewing"),
    ("quickstart",),
    ("main",),
    ("tools",),
)
ROW_OF = {name: row for row, names in enumerate(ROWS) for name in names}


def package_of(path: pathlib.Path) -> str:
    """The package, or top-level module, that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: pathlib.Path) -> set[str]:
    """Every module that a file imports, wherever in it, with full names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where things come from"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def may_import(importer: str, imported: str) -> bool:
    return importer == imported or ROW_OF[imported] < ROW_OF[importer]


def test_packages_import_from_lower_rows_only():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        for name in imports(path)
        if name.startswith("phi4r.") and not may_import(package_of(path), name.split(".")[1])
    ]
    assert not wrong


def test_every_package_has_its_row():
    packages = {package_of(path) for path in FILES} - {"__init__"}
    assert packages <= set(ROW_OF)
    assert {"settings", "rl"} <= packages  # the search finds modules and packages


def test_the_order_would_notice():
    assert not may_import("model", "data")
    assert not may_import("sampling", "checkpoint")
    assert not may_import("text", "metrics")
    assert may_import("rl", "train") and may_import("settings", "errors")


FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "torch", "transformers"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def test_nothing_unpickles_evaluates_or_needs_torch():
    wrong = []
    for path in FILES:
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        used = {call.id for call in calls if isinstance(call, ast.Name)} & FORBIDDEN_CALLS
        used |= {name.split(".")[0] for name in imports(path)} & FORBIDDEN_MODULES
        wrong += [f"{path.relative_to(ROOT)} uses {name}" for name in used]
    assert not wrong


def test_no_file_is_longer_than_400_lines():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert not {name: length for name, length in lengths.items() if length > 400}
    assert max(lengths.values()) > 100


@pytest.mark.parametrize("package", ["text", "verifiers"])
def test_workers_start_without_jax(package, repository):
    modules = [f"phi4r.{package}"] + [
        f"phi4r.{package}.{path.stem}" for path in sorted((ROOT / package).glob("[a-z]*.py"))
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print([name for name in ('jax', 'flax', 'torch', 'transformers') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
