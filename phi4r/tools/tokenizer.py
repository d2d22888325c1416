"""Makes the tokenizer of a model folder: trains a small one, or builds that of Phi-4.

  phi4r tokenizer train --corpus FILE [FILE ...] --vocab_size 512 DST
  phi4r tokenizer phi4 --ranks cl100k_base.tiktoken DST

Both write the chat template of phi-4 along. The think tags come later, with `phi4r convert --reasoning`.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from phi4r.errors import UserError
from phi4r.text.phi4 import write_phi4_tokenizer
from phi4r.text.sentencepiece_training import train_sentencepiece, write_sentencepiece_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the two ways to make a tokenizer."""
    ways = parser.add_subparsers(dest="way", metavar="WAY", required=True)
    train = ways.add_parser("train", help="train a small SentencePiece tokenizer with the tokens of Phi-4")
    train.add_argument("--corpus", nargs="+", required=True, metavar="FILE", help="text files, a text a line")
    train.add_argument("--vocab_size", type=int, required=True, help="number of ids, 353 of them for bytes and tokens")
    train.add_argument("folder", metavar="DST", help="folder for tokenizer.model and the files beside it")
    phi4 = ways.add_parser("phi4", help="build the tokenizer.json of Phi-4 from the cl100k ranks")
    phi4.add_argument("--ranks", required=True, metavar="FILE", help="cl100k_base in the format of tiktoken")
    phi4.add_argument("folder", metavar="DST", help="folder for tokenizer.json and the files beside it")


def run(args: argparse.Namespace) -> None:
    """Writes the tokenizer into the folder."""
    if args.way == "train":
        model = train_sentencepiece(_lines(args.corpus), vocab_size=args.vocab_size)
        write_sentencepiece_folder(model, args.folder)
    else:
        write_phi4_tokenizer(args.ranks, args.folder)
    print(f"wrote the tokenizer to {args.folder}")


def _lines(files: Sequence[str]) -> Iterator[str]:
    for file in files:
        try:
            yield from Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the corpus {file} ({error}); give UTF-8 text files.") from error
