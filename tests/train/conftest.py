"""A base model of 30k parameters with its tokenizer, and a few traces to train it on."""

import pathlib

import jax
import pytest

from phi4r.checkpoint.release import save_hf_folder
from phi4r.data.pipeline import DataSettings, SourceSettings
from phi4r.data.records import Trace, write_jsonl
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import init_params
from phi4r.sharding import MeshSettings
from phi4r.text.reasoning import write_reasoning_tokenizer
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder
from phi4r.text.tokenizer import load_tokenizer
from phi4r.train.optim import OptimizerSettings
from phi4r.train.setup import ModelOverrides
from phi4r.train.sft import SftSettings


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory) -> pathlib.Path:
    """A Hugging Face folder: random weights, a reasoning tokenizer."""
    root = tmp_path_factory.mktemp("base")
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), root / "plain")
    write_reasoning_tokenizer(root / "plain", root / "tokenizer", system_message="Think.")
    config = ModelConfig(
        vocab_size=-(-load_tokenizer(root / "tokenizer").vocab_size // 8) * 8,
        num_layers=2,
        embed_dim=32,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        mlp_dim=64,
        max_positions=256,
    )
    params = init_params(config, jax.random.key(0))
    save_hf_folder(root / "model", params, config=config, source_folder=root / "tokenizer")
    return root / "model"


@pytest.fixture(scope="session")
def traces_file(tmp_path_factory) -> pathlib.Path:
    """Sixty sums of two digits."""
    sums = [(a, b) for a in range(1, 9) for b in range(1, 9)][:60]
    path = tmp_path_factory.mktemp("traces") / "traces.jsonl"
    traces = [Trace(f"{a}+{b}", f"{a} +{b} =", f" +{b} {a + b}", f"{a + b}", f"{a + b}", {}) for a, b in sums]
    write_jsonl(path, traces)
    return path


@pytest.fixture(scope="session")
def settings(base_folder, traces_file) -> SftSettings:
    """Six steps on eight devices."""
    return SftSettings(
        init_from=str(base_folder),
        data=DataSettings((SourceSettings(f"jsonl:{traces_file}"),), row_length=64, global_batch=16, num_threads=1),
        num_steps=6,
        seed=3,
        model=ModelOverrides(dtype="float32", remat="none"),
        mesh=MeshSettings(fsdp=8),
        optimizer=OptimizerSettings(learning_rate=3e-3, warmup_steps=2),
        num_microbatches=2,
        logprob_chunk=16,
        log_every=1,
        save_every=3,
        eval_every=3,
        eval_batches=2,
    )
