"""The tokenizer protocol, and the one way to open the tokenizer of a model folder."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from phi4r.errors import UserError

THINK, END_THINK = "<think>", "</think>"

# Which special tokens are parsed in a text: all of them, none, or only those named.
Specials = bool | Collection[str]


class Tokenizer(Protocol):
    """Text to ids and back; the special ids come from the files of the model, never from a table of ours.

    Attributes:
      vocab_size: one more than the largest id; an embedding may have more rows.
      special_tokens: the added tokens by their text, such as `<|im_end|>`, with their ids.
      eos_id: the id that ends a turn, `<|im_end|>` in the Phi-4 family.
      bos_id: the id that starts a document, or None where the model has none.
      pad_id: the id that fills the unused places of a row. It may be a token with a meaning of its own, so a mask
        is never inferred from it.
    """

    vocab_size: int
    special_tokens: Mapping[str, int]
    eos_id: int
    bos_id: int | None
    pad_id: int

    def encode(self, text: str, *, specials: Specials = False) -> list[int]:
        """Returns the ids of `text`.

        With `specials` False the text is plain: `<|im_end|>` written by a user becomes the ids of its letters. With
        True every special token is parsed, with a collection only those named.
        """

    def encode_parts(self, parts: Sequence[tuple[str, Specials]]) -> list[int]:
        """Returns the ids of one text given in parts, each with its own rule for special tokens.

        A special token is parsed only inside one part; ordinary tokens may cross from a part into the next. So the
        ids are those of `encode` on the joined text wherever the rules agree.
        """

    def decode(self, ids: Sequence[int], *, skip_specials: bool = False) -> str:
        """Returns the text of `ids`; `skip_specials` drops control tokens, but not the think tags."""

    def token_id(self, token: str) -> int:
        """Returns the id of the vocabulary entry `token`; UserError where there is none."""

    @property
    def think_id(self) -> int:
        """The id of `<think>`; UserError where the model is not a reasoning model."""

    @property
    def end_think_id(self) -> int:
        """The id of `</think>`; UserError where the model is not a reasoning model."""


def load_tokenizer(folder: str | os.PathLike) -> Tokenizer:
    """Opens the tokenizer of a model folder: `tokenizer.json` where there is one, else `tokenizer.model`.

    Raises:
      UserError: where the folder holds no tokenizer or one that cannot be read.
    """
    folder = Path(folder)
    if (folder / "tokenizer.json").is_file():
        from phi4r.text.hf_tokenizer import HfTokenizer

        return HfTokenizer(folder)
    if (folder / "tokenizer.model").is_file():
        from phi4r.text.sentencepiece_tokenizer import SentencePieceTokenizer

        return SentencePieceTokenizer(folder)
    raise UserError(
        f"{folder} holds neither tokenizer.json nor tokenizer.model; give a folder with the tokenizer of the model."
    )
