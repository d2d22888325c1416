"""A small SFT run and small GRPO runs as config files of phi4r.main; what they leave behind; processes to run them."""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import jax

from phi4r.checkpoint.release import load_model, save_hf_folder
from phi4r.data.records import Trace, write_jsonl
from phi4r.data.sources import open_source
from phi4r.metrics.writer import read_metrics
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import init_params
from phi4r.text.reasoning import write_reasoning_tokenizer
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder
from phi4r.text.tokenizer import load_tokenizer

CLOCK = (
    "step_s",
    "tokens_per_s",
    "compiles",
    "sample_s",
    "sample_host_s",
    "judge_s",
    "wait_s",
)  # what two equal runs may differ in
REPOSITORY = pathlib.Path(__file__).parent.parent.parent

COMMON = """
from ml_collections import ConfigDict
def get_config():
    return ConfigDict(dict(
        init_from={folder!r} + "/model", seed=3, num_steps=10, log_every=1, save_every=1, keep=2, logprob_chunk=16,
        mesh=dict(fsdp=2), model=dict(dtype="float32", remat="none"),
        optimizer=dict(learning_rate=3e-3, warmup_steps=0, schedule="constant"),
        {rest}
    ))
"""
SFT = """
        experiment="sft",
        data=dict(sources=(dict(spec="jsonl:" + {folder!r} + "/traces.jsonl"),), row_length=64, global_batch=8,
                  num_threads=2),
"""
GRPO = """
        experiment="grpo", task="chains:train?num=12&min_ops=2&max_ops=3", problems_per_step=4,
        verifier_deadline_s=120.0,
        sampler=dict(prompt_length=24, max_response=8),
        reward=dict(max_length=8, positive_control_length=6, negative_control_length=4),
        grpo=dict(group_size=4, kl_beta=0.1, entropy_gamma=0.01),
"""
EXPERIMENTS = {"sft": SFT, "grpo": GRPO, "pipeline": GRPO + "        pipeline=True,\n"}


def write_experiments(folder: pathlib.Path) -> None:
    """Writes a model of 30k parameters, traces, and the configs of all experiments."""
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), folder / "plain")
    write_reasoning_tokenizer(folder / "plain", folder / "tokenizer", system_message=None)
    tokenizer = load_tokenizer(folder / "tokenizer")
    config = ModelConfig(
        vocab_size=-(-tokenizer.vocab_size // 8) * 8,
        num_layers=1,
        embed_dim=16,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        mlp_dim=32,
        max_positions=128,
        init_std=0.1,
    )
    params = jax.jit(functools.partial(init_params, config))(jax.random.key(0))
    params["lm_head"] = params["lm_head"].at[:, tokenizer.eos_id].multiply(12.0)  # some responses end
    save_hf_folder(folder / "model", params, config=config, source_folder=folder / "tokenizer")
    sums = [(a, b) for a in range(1, 9) for b in range(1, 9)][:60]
    traces = [Trace(f"{a}+{b}", f"{a} +{b} =", f" +{b} {a + b}", f"{a + b}", f"{a + b}", {}) for a, b in sums]
    write_jsonl(folder / "traces.jsonl", traces)
    for name, rest in EXPERIMENTS.items():
        (folder / f"{name}.py").write_text(COMMON.format(folder=str(folder), rest=rest.format(folder=str(folder))))


@dataclasses.dataclass
class Run:
    """A process of phi4r.main."""

    forker: subprocess.Popen
    pid: int

    def wait(self) -> int:
        """Returns the exit code, the negative number of the signal that killed it."""
        return int(self.forker.stdout.readline())

    def send(self, signal: int) -> None:
        """Sends a signal, unless the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal)


class Forker:
    """Starts runs of phi4r.main, one at a time, without the time of imports."""

    def __init__(self, folder: pathlib.Path):
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        self._process = subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__).parent / "forker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env=environment,
        )
        self._folder = folder

    def start(self, name: str, workdir: pathlib.Path, *overrides: str) -> Run:
        """Starts the experiment `name` in `workdir`; what it prints goes to WORKDIR.log."""
        argv = [f"--config={self._folder / name}.py", f"--workdir={workdir}", *overrides]
        self._process.stdin.write(json.dumps([argv, f"{workdir}.log"]) + "\n")
        self._process.stdin.flush()
        return Run(self._process, int(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@contextlib.contextmanager
def open_forker(folder: pathlib.Path) -> Iterator[Forker]:
    """Gives a Forker for the experiments in `folder`."""
    forker = Forker(folder)
    try:
        yield forker
    finally:
        forker.close()


def outcome(workdir: pathlib.Path) -> dict:
    """Returns all that two equal runs have in common: metrics, sampled ids and the rest of rollouts, parameters."""
    lines = [{k: repr(v) for k, v in line.items() if k not in CLOCK} for line in read_metrics(workdir)]
    rollouts = {path.name: open_source(f"arrayrecord:{path}") for path in sorted((workdir / "rollouts").glob("*"))}
    params = jax.device_get(load_model(workdir / "params").params)
    return {
        "metrics": lines,
        "rollouts": {name: [_timeless(source[i]) for i in range(len(source))] for name, source in rollouts.items()},
        "params": {jax.tree_util.keystr(path): leaf.tobytes() for path, leaf in jax.tree.leaves_with_path(params)},
    }


def _timeless(record: dict) -> dict:
    """Returns a record of a response without what depends on the clock."""
    return {key: value for key, value in record.items() if key not in CLOCK}


def complete_steps(workdir: pathlib.Path) -> list[int]:
    """Returns the steps whose checkpoints are complete."""
    folder = workdir / "checkpoints"
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())
