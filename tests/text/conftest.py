"""Tokenizer folders that several tests read: a tiny byte-level one, the shipped small one, and that of Phi-4."""

import importlib.util
import json
from pathlib import Path

import pytest

from phi4r.text.phi4 import write_phi4_tokenizer
from phi4r.text.reasoning import write_reasoning_tokenizer
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder
from phi4r.text.tokenizer import load_tokenizer


@pytest.fixture(scope="session")
def ranks_folder() -> Path:
    """A cache folder of tiktoken with the ranks of cl100k_base, as the package litellm carries it."""
    spec = importlib.util.find_spec("litellm")
    if spec is None:
        pytest.skip("the ranks of cl100k_base are read from the package litellm, which is not installed")
    return Path(spec.submodule_search_locations[0]) / "litellm_core_utils" / "tokenizers"


@pytest.fixture(scope="session")
def ranks_file(ranks_folder) -> Path:
    return ranks_folder / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"


@pytest.fixture(scope="session")
def phi4_folder(ranks_file, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phi4")
    write_phi4_tokenizer(ranks_file, folder)
    return folder


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory) -> Path:
    """The shipped SentencePiece model as a base model has it, placeholders and all."""
    folder = tmp_path_factory.mktemp("small")
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), folder)
    return folder


@pytest.fixture(scope="session")
def small_reasoning_folder(small_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small_reasoning")
    write_reasoning_tokenizer(small_folder, folder)
    return folder


@pytest.fixture(scope="session")
def byte_folder(write_byte_tokenizer, tmp_path_factory) -> Path:
    """A tokenizer.json whose plain tokens are single bytes, as a ChatML model might have it."""
    return write_byte_tokenizer(tmp_path_factory.mktemp("bytes"), ["<|im_start|>", "<|im_end|>", "<|pad|>"])


@pytest.fixture(scope="session")
def write_byte_tokenizer():
    """A function that writes a byte-level tokenizer.json with added tokens from id 256 on."""
    return _write_byte_tokenizer


@pytest.fixture(params=["phi4", "small", "bytes"])
def tokenizer(request):
    """Each kind of tokenizer in turn."""
    fixture = {"phi4": "phi4_folder", "small": "small_folder", "bytes": "byte_folder"}[request.param]
    return load_tokenizer(request.getfixturevalue(fixture))


def _write_byte_tokenizer(folder: Path, specials, *, config=None, plain_tags=(), **flags) -> Path:
    import tokenizers

    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([tokenizers.AddedToken(s, normalized=False, **flags) for s in specials])
    tokenizer.add_tokens([tokenizers.AddedToken(tag, normalized=False) for tag in plain_tags])
    tokenizer.save(str(folder / "tokenizer.json"))
    if config is None:
        config = {"eos_token": "<|im_end|>", "pad_token": {"content": "<|pad|>"}, "bos_token": "<|im_start|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
