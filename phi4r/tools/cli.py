"""The `phi4r` command: one subcommand a file of this package."""

import argparse
import ast
import importlib
import pathlib
import sys
from collections.abc import Sequence

from phi4r.errors import UserError

COMMANDS = {
    "allow-list": "allow_list",
    "convert": "convert",
    "curate": "curate",
    "evaluate": "evaluate",
    "generate": "generate",
    "plan": "plan",
    "plot-reward": "plot_reward",
    "report": "report",
    "sweep": "sweep",
    "tokenizer": "tokenizer",
    "view": "view",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `phi4r COMMAND ...`; a UserError is one line on stderr and exit code 2."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(
        prog="phi4r",
        description="Tools around phi4r; experiments run with `python -m phi4r.main --help`.",
        epilog="`phi4r COMMAND --help` explains a command.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        doc = _docstring(module)
        command = commands.add_parser(
            name,
            help=doc.splitlines()[0],
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        # Only the chosen command is imported: `phi4r --help` answers at once.
        if argv and argv[0] == name:
            importlib.import_module(f"phi4r.tools.{module}").add_arguments(command)
    args, overrides = parser.parse_known_args(argv)
    if overrides and not getattr(args, "takes_overrides", False):
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    args.overrides = overrides
    try:
        importlib.import_module(f"phi4r.tools.{COMMANDS[args.command]}").run(args)
    except UserError as error:
        print(f"phi4r {args.command}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _docstring(module: str) -> str:
    """Returns the docstring of a command's file without importing it."""
    source = pathlib.Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""


if __name__ == "__main__":
    main()
