"""Convert between Hugging Face folders and Orbax checkpoints.

phi4r convert hf-to-orbax microsoft/phi-4 checkpoints/phi-4-base --reasoning
phi4r convert orbax-to-hf checkpoints/phi-4-reasoning release/phi-4-reasoning

The same command goes on where an interrupted conversion was.
"""

import argparse

from phi4r.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `phi4r convert`."""
    parser.add_argument("direction", choices=("hf-to-orbax", "orbax-to-hf"))
    parser.add_argument("source", help="folder to read")
    parser.add_argument("destination", help="folder to write; it must not exist, or be empty")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="dtype to store; default: as read")
    parser.add_argument(
        "--reasoning",
        action="store_true",
        help="with hf-to-orbax: <think> tokens, doubled rope theta and context, defaults of Phi-4-reasoning",
    )
    parser.add_argument(
        "--system_message",
        help="with --reasoning: the fixed system turn of the chat template ('' for none); default: that of the release",
    )


def run(args: argparse.Namespace) -> None:
    """Converts, and says where the result lies.

    Raises:
      UserError: for bad input, or options that do not go together.
    """
    import jax

    from phi4r.checkpoint import convert

    jax.config.update("jax_platforms", "cpu")  # conversion uses no device: leave accelerators to those who do
    if args.direction == "orbax-to-hf":
        if args.reasoning or args.system_message is not None:
            raise UserError("--reasoning and --system_message belong to hf-to-orbax; leave them out.")
        convert.orbax_to_hf(args.source, args.destination, dtype=args.dtype)
    else:
        if args.system_message is not None and not args.reasoning:
            raise UserError("--system_message changes the template of --reasoning only; give both or none.")
        message = {} if args.system_message is None else {"system_message": args.system_message or None}
        convert.hf_to_orbax(args.source, args.destination, reasoning=args.reasoning, dtype=args.dtype, **message)
    print(f"wrote {args.destination}")
