"""Writes one HTML page of a GRPO run: its curves, and its rollouts to read, filter and compare; it opens offline."""

import argparse
import pathlib

from phi4r.viewing.page import PageLimits, write_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `phi4r view`."""
    limits = PageLimits()
    parser.add_argument("dir", metavar="DIR", type=pathlib.Path, help="the workdir of a GRPO run, or its rollouts/")
    parser.add_argument("--output", metavar="FILE", type=pathlib.Path, help="the page (default: DIR/rollouts.html)")
    parser.add_argument(
        "--steps", help="whose texts to show, as 1,5,10-20 (default: the first, the last and some between them)"
    )
    parser.add_argument(
        "--max_steps", type=int, default=limits.max_steps, help="how many without --steps (default %(default)s)"
    )
    parser.add_argument(
        "--megabytes",
        type=float,
        default=limits.megabytes,
        help="about the size of the page; what does not fit is left out, and the page says so (default %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    """Writes the page.

    Raises:
      UserError: for a folder without rollouts, a record that cannot be read, or a page that cannot be written.
    """
    output = args.output or args.dir / "rollouts.html"
    written = write_page(args.dir, output, PageLimits(args.steps, args.max_steps, args.megabytes))
    size = output.stat().st_size / 1e6
    print(f"wrote {output}: {size:.1f} MB, steps: {written['steps']}, groups: {written['problems']}")
