"""The tokenizer of Phi-4: the cl100k byte-level BPE and 96 added tokens, built from a file of ranks.

A ranks file (the format of tiktoken) has one line a token: its bytes in base64, a space, its rank, which is its id.
`tokenizer.json` wants merges instead. The merge of a token is found by encoding its bytes with the tokens of lower rank
alone: two pieces remain, and those are the pair that makes it.
"""

import base64
import binascii
import itertools
import os
from pathlib import Path
from typing import Any

from phi4r.errors import UserError
from phi4r.text.byte_level import byte_letters
from phi4r.text.files import CONFIG_FILE, TEMPLATE_FILE, to_json, write_files
from phi4r.text.template import phi4_template

NUM_RANKS = 100_256
BOS_TOKEN, EOS_TOKEN, PAD_TOKEN = "<|endoftext|>", "<|im_end|>", "<|dummy_85|>"
PLACEHOLDERS = ("<|dummy_86|>", "<|dummy_87|>")  # become <think> and </think> in the reasoning models

# How text is cut into words before the BPE: contractions, letters, up to three digits, punctuation, white space.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _added_tokens() -> tuple[str, ...]:
    """Returns the 96 added tokens in the order of their ids, 100256 to 100351."""
    dummies = iter(f"dummy_{i}" for i in range(88))
    named = {1: "endoftext", 2: "fim_prefix", 3: "fim_middle", 4: "fim_suffix"}
    named |= {8: "im_start", 9: "im_end", 10: "im_sep", 20: "endofprompt"}
    return tuple(f"<|{named.get(place) or next(dummies)}|>" for place in range(96))


ADDED_TOKENS = _added_tokens()


def write_phi4_tokenizer(ranks_file: str | os.PathLike, folder: str | os.PathLike) -> None:
    """Writes the tokenizer of Phi-4 and its chat template into `folder`.

    Args:
      ranks_file: the cl100k_base ranks in the format of tiktoken.
      folder: where tokenizer.json, tokenizer_config.json and chat_template.jinja go.

    Raises:
      UserError: where the ranks cannot be read or are not those of cl100k_base, or the folder cannot be written.
    """
    ranks = read_ranks(ranks_file)
    files = {
        "tokenizer.json": to_json(_tokenizer_json(ranks)),
        CONFIG_FILE: to_json(tokenizer_config(first_id=NUM_RANKS, tokenizer_class="PreTrainedTokenizerFast")),
        TEMPLATE_FILE: phi4_template().encode(),
    }
    write_files(folder, files)


def tokenizer_config(*, first_id: int, tokenizer_class: str) -> dict[str, Any]:
    """Returns the tokenizer_config.json of a Phi-4 tokenizer whose added tokens start at `first_id`."""
    added = {str(token["id"]): token for token in _added_token_entries(first_id)}
    return {
        "added_tokens_decoder": {
            index: {key: value for key, value in token.items() if key != "id"} for index, token in added.items()
        },
        "bos_token": BOS_TOKEN,
        "eos_token": EOS_TOKEN,
        "pad_token": PAD_TOKEN,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": tokenizer_class,
    }


def read_ranks(path: str | os.PathLike) -> dict[bytes, int]:
    """Returns the ranks of cl100k_base by the bytes of their tokens, in the order of rank.

    Raises:
      UserError: where the file cannot be read or is not the vocabulary of cl100k_base.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
        pairs = [line.split() for line in lines if line]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give the file of the cl100k_base ranks.") from error
    except (ValueError, binascii.Error) as error:
        raise UserError(f"{path} is not a file of ranks, `base64 rank` on each line ({error}).") from error
    if sorted(ranks.values()) != list(range(NUM_RANKS)) or any(bytes([b]) not in ranks for b in range(256)):
        raise UserError(f"{path} does not hold the {NUM_RANKS} ranks of cl100k_base; it has {len(ranks)} tokens.")
    return dict(sorted(ranks.items(), key=lambda item: item[1]))


def _tokenizer_json(ranks: dict[bytes, int]) -> dict[str, Any]:
    letters = byte_letters()

    def spell(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    words = {"type": "Split", "pattern": {"Regex": _WORDS}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_token_entries(NUM_RANKS),
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {spell(token): rank for token, rank in ranks.items()},
            "merges": [[spell(piece) for piece in _merge_of(token, ranks)] for token in ranks if len(token) > 1],
        },
    }


def _merge_of(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """Returns the two pieces that remain of `token` when only tokens of lower rank are merged."""
    limit = ranks[token]
    pieces = [token[i : i + 1] for i in range(len(token))]
    while True:
        pairs = [min(ranks.get(a + b, limit), limit) for a, b in itertools.pairwise(pieces)]
        lowest = min(pairs)
        if lowest == limit:
            break
        i = pairs.index(lowest)
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
    if len(pieces) != 2:
        raise UserError(f"the ranks are not those of a BPE: token {limit} is no merge of two tokens before it.")
    return pieces


def _added_token_entries(first_id: int) -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return [{"id": first_id + i, "content": text, **flags} for i, text in enumerate(ADDED_TOKENS)]
