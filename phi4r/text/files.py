"""The tokenizer files of a Hugging Face folder: reading, and writing without leaving halves behind."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phi4r.errors import UserError

TEMPLATE_FILE = "chat_template.jinja"
CONFIG_FILE = "tokenizer_config.json"

# Every file of a released folder that belongs to its tokenizer or to its chat template.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    CONFIG_FILE,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    TEMPLATE_FILE,
    "chat_template.json",
)


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in the JSON file `path`, or an empty one where there is no such file.

    Raises:
      UserError: where the file is not a JSON object.
    """
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); download or write the file again.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold a JSON object, not {type(value).__name__}.")
    return value


def to_json(value: Mapping[str, Any]) -> bytes:
    """Returns `value` as the bytes of a JSON file, in the layout of a Hugging Face folder."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def read_tokenizer_files(folder: str | os.PathLike) -> dict[str, bytes]:
    """Returns the tokenizer files of `folder` by name, chat template included.

    Raises:
      UserError: where the folder holds no tokenizer.
    """
    folder = Path(folder)
    files = {name: (folder / name).read_bytes() for name in TOKENIZER_FILES if (folder / name).is_file()}
    if not files.keys() & {"tokenizer.json", "tokenizer.model"}:
        raise UserError(
            f"{folder} holds neither tokenizer.json nor tokenizer.model; give a folder with the tokenizer of the model."
        )
    return files


def write_files(folder: str | os.PathLike, files: Mapping[str, bytes]) -> None:
    """Writes `files` (name to content) into `folder`, each under a temporary name until it is whole.

    Raises:
      UserError: where the folder cannot be written.
    """
    folder = Path(folder)
    partial = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            partial.append(folder / f".{name}.partial")
            partial[-1].write_bytes(content)
        for name, path in zip(files, partial, strict=True):
            path.replace(folder / name)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; choose a folder that you can write.") from error
    finally:
        for path in partial:
            path.unlink(missing_ok=True)
