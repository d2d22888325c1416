"""A model folder without weights, and experiments on it: what a plan needs to know of a model is its shape."""

import json

import pytest

from phi4r.model.config import ModelConfig
from phi4r.planning.experiment import make_experiment

TINY = ModelConfig(
    vocab_size=256, num_layers=3, embed_dim=64, num_heads=8, num_kv_heads=2, head_dim=16, mlp_dim=128, max_positions=256
)
NUMERICS = {"dtype": "float32", "param_dtype": "float32", "remat": "full"}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(TINY.to_hf()))
    return folder


@pytest.fixture
def sft(model_folder):
    return make_experiment(
        {
            "experiment": "sft",
            "init_from": str(model_folder),
            "num_steps": 10,
            "num_microbatches": 2,
            "logprob_chunk": 32,
            "model": dict(NUMERICS),
            "mesh": {"fsdp": 4, "tensor": 2},
            "data": {"sources": [{"spec": "jsonl:none", "weight": 1.0}], "global_batch": 8, "row_length": 64},
            "optimizer": {"warmup_steps": 2},
        }
    )


@pytest.fixture
def grpo(model_folder):
    return make_experiment(
        {
            "experiment": "grpo",
            "init_from": str(model_folder),
            "task": "none",
            "num_steps": 10,
            "problems_per_step": 16,
            "num_microbatches": 2,
            "logprob_chunk": 32,
            "model": dict(NUMERICS),
            "mesh": {"fsdp": 8},
            "sampler": {"prompt_length": 16, "max_response": 48, "num_slots": 32, "page_size": 16, "burst": 8},
            "reward": {"max_length": 48, "positive_control_length": 40, "negative_control_length": 6},
            "grpo": {"group_size": 2},
            "optimizer": {"warmup_steps": 2},
        }
    )
