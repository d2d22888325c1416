"""Hugging Face folders made by transformers: one tiny relative of every family member."""

import hashlib
import json
import pathlib

import numpy as np
import pytest

from phi4r.checkpoint.hf_layout import hf_leaves
from phi4r.checkpoint.pieces import tensor_specs
from phi4r.checkpoint.safetensors_writer import SafetensorsWriter
from phi4r.checkpoint.shards import default_layout
from phi4r.model.config import ModelConfig

# The structure of RECIPE section 1 (head ratio, tying, rotary fraction, longrope, window, odd sizes), small.
PHI3 = dict(hidden_size=40, intermediate_size=56, num_hidden_layers=3, vocab_size=151, pad_token_id=0, eos_token_id=1)
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.1, 1.2],
    "long_factor": [1.0, 2.0, 4.0],
    "original_max_position_embeddings": 64,
}
FAMILY = {
    "phi-4": dict(PHI3, num_attention_heads=20, num_key_value_heads=5, rope_theta=250000.0),
    "phi-4-reasoning": dict(PHI3, num_attention_heads=20, num_key_value_heads=5, rope_theta=500000.0),
    "phi-4-mini": dict(
        PHI3,
        num_attention_heads=5,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        max_position_embeddings=256,
        original_max_position_embeddings=64,
        rope_parameters=LONGROPE,
    ),
    "phi-3-mini": dict(PHI3, num_attention_heads=4, num_key_value_heads=4, sliding_window=7),
    "phi-3-medium": dict(PHI3, num_attention_heads=20, num_key_value_heads=5, sliding_window=9),
    "llama-tied": dict(PHI3, num_attention_heads=10, num_key_value_heads=5, tie_word_embeddings=True),
    "llama-wide-heads": dict(PHI3, num_attention_heads=4, num_key_value_heads=2, head_dim=12),
}


def make_hf_folder(folder: pathlib.Path, member: str, *, dtype: str = "bfloat16", shard_size: str = "12KB"):
    """Saves a random model of `member` as transformers does, in several shards, and returns the torch model."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    is_llama = member.startswith("llama")
    config_class = transformers.LlamaConfig if is_llama else transformers.Phi3Config
    model_class = transformers.LlamaForCausalLM if is_llama else transformers.Phi3ForCausalLM
    torch.manual_seed(int.from_bytes(hashlib.sha256(member.encode()).digest()[:4], "big"))
    model = model_class(config_class(**FAMILY[member], bos_token_id=1)).to(getattr(torch, dtype))
    for parameter in model.parameters():  # norms included: random, so that a swapped norm is seen
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder, max_shard_size=shard_size)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 16384}')
    return model


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory):
    """Returns a function: (member, dtype) -> folder of a random tiny model, made once and only read."""
    made: dict[tuple[str, str], pathlib.Path] = {}

    def get(member: str = "phi-4", dtype: str = "bfloat16") -> pathlib.Path:
        if (member, dtype) not in made:
            made[member, dtype] = tmp_path_factory.mktemp("hf") / member
            make_hf_folder(made[member, dtype], member, dtype=dtype)
        return made[member, dtype]

    return get


@pytest.fixture(scope="session", params=FAMILY)
def family_member(request) -> str:
    """Each member of the family in turn."""
    return request.param


def write_random_folder(folder: pathlib.Path, config: ModelConfig, *, max_file_bytes: int = 2**20) -> None:
    """Writes a random float32 model of type phi3 without transformers, in several files."""
    leaves = hf_leaves(config, fused=True)
    specs = tensor_specs(leaves, {leaf.path: np.dtype(np.float32) for leaf in leaves})
    random = np.random.default_rng(0)
    folder.mkdir()
    with SafetensorsWriter(folder, default_layout(specs, max_file_bytes=max_file_bytes), specs) as writer:
        for name, spec in specs.items():
            writer.write(name, random.standard_normal(spec.shape, np.float32))
    (folder / "config.json").write_text(json.dumps({**config.to_hf(), "dtype": "float32"}))
