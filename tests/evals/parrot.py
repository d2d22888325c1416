"""A model whose every answer is known."""

import pathlib

import jax
import jax.numpy as jnp

from phi4r.checkpoint.release import save_hf_folder
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import init_params
from phi4r.text.reasoning import write_reasoning_tokenizer
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder
from phi4r.text.tokenizer import Tokenizer, load_tokenizer


def write_parrot(root: pathlib.Path, answer: str, *, system_message: str | None = None) -> pathlib.Path:
    """Writes a Hugging Face folder under `root` and returns it: a reasoning model that says `answer` to everything."""
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), root / "plain")
    write_reasoning_tokenizer(root / "plain", root / "tokenizer", system_message=system_message)
    config, params = _parrot(load_tokenizer(root / "tokenizer"), answer)
    save_hf_folder(root / "model", params, config=config, source_folder=root / "tokenizer")
    return root / "model"


def _parrot(tokenizer: Tokenizer, answer: str):
    """Returns a model in which the last token alone decides the next: a table from token to token."""
    header = tokenizer.token_id("<|im_sep|>")  # the last token of every prompt
    path = [header, *tokenizer.encode(answer, specials=True), tokenizer.eos_id]
    assert len(set(path)) == len(path) <= 16
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        num_layers=1,
        embed_dim=16,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        mlp_dim=16,
        max_positions=256,
    )
    params = init_params(config, jax.random.key(0))
    layers = params["layers"]
    layers["attn"]["o"] = jnp.zeros_like(layers["attn"]["o"])
    layers["mlp"]["down"] = jnp.zeros_like(layers["mlp"]["down"])
    states = jnp.arange(len(path) - 1)
    embedding = jnp.zeros_like(params["embedding"]).at[jnp.array(path[:-1]), states].set(1.0)
    head = jnp.zeros_like(params["lm_head"]).at[states, jnp.array(path[1:])].set(100.0)
    return config, {**params, "embedding": embedding, "lm_head": head}
