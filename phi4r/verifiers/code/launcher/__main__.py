"""Runs one program under confinement: `python -I -S -B launcher FOLDER STATUS`.

    parent --- launcher (this process: builds the walls, then watches memory) --- init --- program

FOLDER was written by the parent: settings.json, stdin, the empty folder root, and box/ with program.py and its files.
STATUS is a pipe to the parent that the program never holds. On it go JSON lines: {"started": true}, then
{"exit": CODE, "cpu_s": SECONDS} or {"memory": BYTES}; or {"failed": WHY} instead of all.
"""

import json
import os
import pathlib
import sys
from typing import Any

import namespaces
import supervision


def main() -> None:
    """Confines itself, runs the program, and kills what is left of it: the whole process group, itself included."""
    folder, status = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(status, False)

    def report(**message: Any) -> None:
        os.write(status, json.dumps(message).encode() + b"\n")

    try:
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        processes = supervision.Processes()  # keeps a way to see them from outside the walls
        stdin = os.open(folder / "stdin", os.O_RDONLY)
        box = folder / "box"
        if settings["protected"]:
            namespaces.unshare()
            box = namespaces.build_root(folder, settings["visible"], settings["box_bytes"])
        supervision.supervise(settings, box, stdin, processes, report)
    except OSError as error:
        report(failed=str(error))
    supervision.end_group()


main()
