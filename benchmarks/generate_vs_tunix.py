"""Greedy generation against google-tunix's sampler, on the same CPU with the same weights in float32.

    python3 -m venv tunix-venv && tunix-venv/bin/pip install google-tunix
    python -m benchmarks.generate_vs_tunix --python=tunix-venv/bin/python --batch=32

Both sides get the same prompts and have to produce the same token ids; prefill is part of the time. Loading and
compilation are not. The model is SmolLM2-135M with another base of its rotary frequencies: tunix's Llama rotates with
1,000,000, whatever its config says. It speaks no English that way, but both sides compute the same.
"""

import argparse
import functools
import json
import pathlib
import tempfile

import numpy as np

from benchmarks.generate_vs_transformers import DEFAULT_FOLDER, make_phi4r, make_prompts
from benchmarks.peers import Peer
from benchmarks.smollm2 import write_smollm2_folder
from benchmarks.timing import print_table, time_interleaved

TUNIX_ROPE_THETA = 1_000_000.0  # of `apply_rope` in tunix.models.llama3
SCRIPT = pathlib.Path(__file__).with_name("peer_tunix.py")


def write_variant(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Writes the same model with the rotary base of tunix; the files of weights are links."""
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).symlink_to(file.absolute())
    config = json.loads((source / "config.json").read_text()) | {"rope_theta": TUNIX_ROPE_THETA}
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))


def main() -> None:
    """Runs the comparison and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=pathlib.Path, required=True, help="an interpreter that has google-tunix")
    parser.add_argument("--batch", type=int, default=32, help="rows generated together")
    parser.add_argument("--tokens", type=int, default=128, help="new tokens of each row")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of each prompt")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each side")
    parser.add_argument("--folder", type=pathlib.Path, default=DEFAULT_FOLDER, help="where the model is kept")
    args = parser.parse_args()
    source = write_smollm2_folder(args.folder)
    prompts = make_prompts(source, batch=args.batch, length=args.prompt)
    produced: dict[str, list[np.ndarray]] = {"tunix": [], "phi4r": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "model"
        write_variant(source, folder)
        ours = make_phi4r(folder, prompts, longest=args.tokens, num_slots=args.batch)
        settings = {"folder": str(folder), "prompts": prompts, "tokens": args.tokens}
        with Peer(args.python, SCRIPT, settings) as tunix:
            # Nothing shorter compiles tunix's programs, so both sides generate all of it before the clock starts.
            sides = {"tunix": tunix, "phi4r": lambda: ours([args.tokens] * args.batch)}

            def run(name: str) -> None:
                produced[name].append(np.asarray(sides[name]()))

            seconds = time_interleaved({name: functools.partial(run, name) for name in sides}, repeats=args.repeats)
    for ids in produced["tunix"] + produced["phi4r"]:
        np.testing.assert_array_equal(ids, produced["tunix"][0], "greedy token ids differ")
    title = f"greedy generation, batch {args.batch}, {args.prompt} + {args.tokens} tokens, same ids"
    print_table(title, seconds, tokens=args.batch * args.tokens, baseline="tunix")


if __name__ == "__main__":
    main()
