"""From the tokenizer of Phi-4 to that of Phi-4-reasoning: the think tags and the fixed system message.

Section 3 of the paper: two placeholder tokens are repurposed as `<think>` and `</think>`, and a system message that
asks for a thought and a solution is put in front of every conversation, as a constant of the chat template.
"""

import os
from pathlib import Path
from typing import Any

from phi4r.errors import UserError
from phi4r.text.files import CONFIG_FILE, TEMPLATE_FILE, read_json, read_tokenizer_files, to_json, write_files
from phi4r.text.phi4 import PLACEHOLDERS
from phi4r.text.sentencepiece_tokenizer import read_model
from phi4r.text.template import phi4_template
from phi4r.text.tokenizer import END_THINK, THINK

REASONING_SYSTEM_MESSAGE = (
    "You are Phi, a language model trained by Microsoft to help users. Your role as an assistant involves thoroughly "
    "exploring questions through a systematic thinking process before providing the final precise and accurate "
    "solutions. This requires engaging in a comprehensive cycle of analysis, summarizing, exploration, reassessment, "
    "reflection, backtracing, and iteration to develop well-considered thinking process. Please structure your "
    "response into two main sections: Thought and Solution using the specified format: <think> {Thought section} "
    "</think> {Solution section}. In the Thought section, detail your reasoning process in steps. Each step should "
    "include detailed considerations such as analysing questions, summarizing relevant findings, brainstorming new "
    "ideas, verifying the accuracy of the current steps, refining any errors, and revisiting previous steps. In the "
    "Solution section, based on various attempts, explorations, and reflections from the Thought section, "
    "systematically present the final solution that you deem correct. The Solution section should be logical, "
    "accurate, and concise and detail necessary steps needed to reach the conclusion. Now, try to solve the following "
    "question through the above guidelines:"
)

_NEW_NAMES = dict(zip(PLACEHOLDERS, (THINK, END_THINK), strict=True))


def write_reasoning_tokenizer(
    src_folder: str | os.PathLike,
    dst_folder: str | os.PathLike,
    *,
    system_message: str | None = REASONING_SYSTEM_MESSAGE,
) -> None:
    """Writes the tokenizer of `src_folder` as that of a reasoning model into `dst_folder`.

    `<|dummy_86|>` and `<|dummy_87|>` become `<think>` and `</think>` under their old ids, so the embeddings keep
    their shape. The tags are no control tokens: decoding with `skip_specials` keeps them.

    Args:
      src_folder: a folder with tokenizer.json or tokenizer.model and the files beside it.
      dst_folder: where the files go; it may be `src_folder`.
      system_message: the fixed system turn of the chat template; None renders a caller's system turns instead.

    Raises:
      UserError: where the tokenizer has no placeholders, or has think tags already.
    """
    folder = Path(src_folder)
    files = {name: _renamed(folder / name, content) for name, content in read_tokenizer_files(folder).items()}
    # One template in one place: transformers prefers this file to the others anyway.
    files.pop("chat_template.json", None)
    write_files(dst_folder, {**files, TEMPLATE_FILE: phi4_template(system_message).encode()})


def _renamed(path: Path, content: bytes) -> bytes:
    """Returns the file `path` with the placeholders renamed, or as it was where it names none."""
    if path.name == "tokenizer.model":
        return _rename_in_model(path)
    if path.suffix != ".json":
        return content
    tree = read_json(path)
    if path.name == "tokenizer.json":
        _check_tokens({token["content"] for token in tree.get("added_tokens", ())}, path)
    dropped = "chat_template" if path.name == CONFIG_FILE else None
    new = _rename({key: value for key, value in tree.items() if key != dropped})
    return content if new == tree else to_json(new)


def _rename(node: Any) -> Any:
    """Returns a JSON tree with every placeholder renamed, be it key, value or the content of an added token."""
    if isinstance(node, str):
        return _NEW_NAMES.get(node, node)
    if isinstance(node, list):
        # A placeholder alone in a list is one of the control tokens, which a tag is not.
        return [_rename(item) for item in node if item not in PLACEHOLDERS]
    if not isinstance(node, dict):
        return node
    new = {_NEW_NAMES.get(key, key): _rename(value) for key, value in node.items()}
    if node.get("content") in PLACEHOLDERS and "special" in node:
        # A tag is text of the response: it stays in decoded text, and the white space around it stays in the ids.
        new |= {"special": False, "lstrip": False, "rstrip": False}
    return new


def _rename_in_model(path: Path) -> bytes:
    proto = read_model(path)
    _check_tokens({piece.piece for piece in proto.pieces}, path)
    for piece in proto.pieces:
        piece.piece = _NEW_NAMES.get(piece.piece, piece.piece)
    symbols = [_NEW_NAMES.get(symbol, symbol) for symbol in proto.trainer_spec.user_defined_symbols]
    proto.trainer_spec.user_defined_symbols[:] = symbols
    return proto.SerializeToString()


def _check_tokens(tokens: set[str], path: Path) -> None:
    if tokens & {THINK, END_THINK}:
        raise UserError(f"{path} has the tokens {THINK} and {END_THINK} already; convert it without --reasoning.")
    if missing := [token for token in PLACEHOLDERS if token not in tokens]:
        raise UserError(
            f"{path} has no placeholder token {missing[0]} to make a think tag of; only a tokenizer of the Phi-4 "
            "family can be converted with --reasoning."
        )
