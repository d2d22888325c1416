"""The stages of the quickstart, a function each, and the log that lets a second run go on where the first stopped."""

import dataclasses
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable

import jax
import numpy as np

from phi4r.checkpoint.convert import hf_to_orbax, orbax_to_hf
from phi4r.checkpoint.random_base import write_random_base
from phi4r.checkpoint.release import load_hf_folder, load_params
from phi4r.data.records import write_json
from phi4r.errors import UserError
from phi4r.evals.experiment import EvalSettings, run_evaluate
from phi4r.metrics.writer import read_metrics
from phi4r.quickstart.settings import QuickstartSettings
from phi4r.rl.train import GrpoRunSettings
from phi4r.train.sft import SftSettings


class StageLog:
    """Runs named stages once each, and keeps their seconds in WORKDIR/stages.json."""

    def __init__(self, workdir: pathlib.Path, *, total: int):
        """Reads what an earlier run has done."""
        self._path = workdir / "stages.json"
        self._total = total
        self._number = 0
        self.seconds: dict[str, float] = json.loads(self._path.read_text()) if self._path.exists() else {}

    def run(self, name: str, stage: Callable[[], object]) -> None:
        """Runs `stage`, unless it was finished before."""
        self._number += 1
        title = f"[{self._number}/{self._total}] {name}"
        if name in self.seconds:
            print(f"{title}: done before ({self.seconds[name]:.0f} s)", file=sys.stderr)
            return
        print(title, file=sys.stderr)
        started = time.perf_counter()
        stage()
        self.seconds[name] = round(time.perf_counter() - started, 2)
        write_json(self._path, self.seconds)


def make_base(settings: QuickstartSettings, folder: pathlib.Path) -> None:
    """Writes the base as a Hugging Face folder of random weights."""
    write_random_base(folder, settings.base_config, seed=settings.seed)


def convert_base(source: pathlib.Path, destination: pathlib.Path) -> None:
    """Converts the base with `--reasoning`: think tokens, doubled theta and context.

    The long system message of the release is left out: spelt by a vocabulary of 544 it would be most of every row.
    """
    hf_to_orbax(source, destination, reasoning=True, system_message=None)


def plain_reward(grpo: GrpoRunSettings) -> GrpoRunSettings:
    """Returns the run with a reward that knows right and wrong, but no length."""
    return dataclasses.replace(grpo, reward=dataclasses.replace(grpo.reward, length_aware=False))


def continued_sft(sft: SftSettings, workdir: pathlib.Path, *, seconds: float) -> SftSettings:
    """Returns SFT from the SFT model on for as many steps as fit into `seconds`, at half the peak learning rate.

    The time of a step is the median of the first run, without compilation and evaluation: in this control's favour.
    """
    step_s = float(np.median([row["step_s"] for row in read_metrics(workdir / "sft") if "step_s" in row]))
    return dataclasses.replace(
        sft,
        init_from=str(workdir / "sft" / "params"),
        num_steps=max(int(seconds / step_s), sft.optimizer.warmup_steps + 1),
        seed=sft.seed + 1_000_000,  # another order of the data
        optimizer=dataclasses.replace(sft.optimizer, learning_rate=sft.optimizer.learning_rate / 2),
    )


def evaluate_model(settings: EvalSettings, model: pathlib.Path, workdir: pathlib.Path, *, seed: int) -> dict:
    """Evaluates a model greedily and at the temperature of `settings`; returns the results of both, by task."""
    sampled = dataclasses.replace(settings, model=str(model), seed=seed)
    decoding = dataclasses.replace(settings.decoding, temperature=0.0)
    greedy = dataclasses.replace(sampled, decoding=decoding, num_runs=1)
    return {
        "greedy": run_evaluate(greedy, workdir / "greedy"),
        "sampled": run_evaluate(sampled, workdir / "sampled"),
    }


def export(source: pathlib.Path, destination: pathlib.Path) -> None:
    """Writes the Hugging Face folder to publish, reads it back, and compares every parameter bit for bit.

    Raises:
      UserError: if a parameter came back changed.
    """
    orbax_to_hf(source, destination)
    _, written = load_params(source)
    config, read = load_hf_folder(destination)
    equal = jax.tree.map(lambda a, b: bool(np.array_equal(np.asarray(a), np.asarray(b))), written, read)
    if not all(jax.tree.leaves(equal)):
        raise UserError(f"{destination} does not hold the parameters of {source}; delete it and run again.")
    print(f"exported {config.num_params:,} parameters to {os.fspath(destination)}", file=sys.stderr)
