"""What runs a solution inside the sandbox: the text of this file is the program, and `solution.py` lies beside it.

It only reports what the solution computes. The right outputs are not there, and what it reports is compared by the
parent, so a solution that takes over this process gains nothing by it. It imports the standard library only.
"""

import builtins
import importlib
import json
import os
import runpy
import sys

RECURSION_LIMIT = 50_000
SOLUTION = "solution.py"
# Solutions are written for judges that have imported these, and all of their names.
CUSTOMARY_MODULES = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools",
    "functools", "operator", "io", "sys", "json", "typing",
)  # fmt: skip


def customary_names() -> dict[str, object]:
    """Returns the names that a solution may use without an import; none of them hides a builtin."""
    modules = {name: importlib.import_module(name) for name in CUSTOMARY_MODULES}
    names: dict[str, object] = {"quit": sys.exit}  # `exit` is a name of sys
    for module in modules.values():
        public = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
        names.update((name, getattr(module, name)) for name in public)
    return {name: value for name, value in {**names, **modules}.items() if not hasattr(builtins, name)}


def run_program() -> None:
    """Runs the solution as a script that has standard input and output for itself."""
    sys.setrecursionlimit(RECURSION_LIMIT)
    runpy.run_path(SOLUTION, customary_names(), "__main__")


def call_function() -> None:
    """Calls a function of the solution once for each test and reports each value at once, as a JSON list on a line.

    Standard input has the name of the function and then the arguments of each test, JSON on a line each.
    """
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the solution prints is no report
    func_name, *tests = [json.loads(line) for line in sys.stdin.buffer.read().splitlines()]
    sys.setrecursionlimit(RECURSION_LIMIT)
    names = runpy.run_path(SOLUTION, customary_names(), "solution")
    for arguments in tests:
        owner = names.get("Solution")
        function = names[func_name] if owner is None else getattr(owner(), func_name)
        reports.write(json.dumps([function(*arguments)], separators=(",", ":")) + "\n")
        reports.flush()
