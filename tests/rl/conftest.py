"""A policy of 20k parameters that now and then ends its responses, with its tokenizer."""

import functools
import pathlib

import jax
import pytest

from phi4r.checkpoint.release import save_hf_folder
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import init_params
from phi4r.text.reasoning import write_reasoning_tokenizer
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder
from phi4r.text.tokenizer import load_tokenizer


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory) -> pathlib.Path:
    """A Hugging Face folder of one layer with random weights.

    Random weights end one response in 512; a larger column of the end token ends some at once and some never.
    """
    root = tmp_path_factory.mktemp("policy")
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), root / "plain")
    write_reasoning_tokenizer(root / "plain", root / "tokenizer", system_message=None)
    tokenizer = load_tokenizer(root / "tokenizer")
    config = ModelConfig(
        vocab_size=-(-tokenizer.vocab_size // 8) * 8,
        num_layers=1,
        embed_dim=16,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        mlp_dim=32,
        max_positions=64,
        init_std=0.1,
    )
    params = jax.jit(functools.partial(init_params, config))(jax.random.key(0))
    params["lm_head"] = params["lm_head"].at[:, tokenizer.eos_id].multiply(12.0)
    save_hf_folder(root / "model", params, config=config, source_folder=root / "tokenizer")
    return root / "model"
