"""Supervised fine-tuning (section 3 of the paper): the loop, to be read from top to bottom.

The life of a batch: source -> chat renders a trace to tokens and loss mask -> examples are mixed and packed into rows
-> rows go to the mesh -> the update function -> metrics. Every so many steps the state is saved, and a held-out loss
taken. A run started again in the same workdir resumes, and is the uninterrupted run bit for bit.

    WORKDIR/metrics.jsonl, tensorboard/    a line every `log_every` steps
    WORKDIR/checkpoints/                   state and data position, the last `keep` and the best
    WORKDIR/nonfinite/<step>.npz           the batch at which a run of steps that were not finite was stopped
    WORKDIR/params/                        the final parameters with tokenizer and config
    WORKDIR/hf/                            the same as a Hugging Face folder, if asked for
    WORKDIR/adapter/                       under `lora`, the adapters as PEFT stores them; the others are merged
"""

import contextlib
import dataclasses
import os
import pathlib
import sys
from typing import Any, Literal

import jax
import numpy as np

from phi4r.checkpoint.best import KeepBest, check_measured
from phi4r.checkpoint.manager import CheckpointManager
from phi4r.data.pipeline import DataSettings, TrainData
from phi4r.errors import UserError
from phi4r.evals.probe import ProbeSettings, open_probe
from phi4r.hosts import is_primary
from phi4r.metrics.progress import Progress
from phi4r.metrics.throughput import CompileCounter
from phi4r.metrics.writer import MetricWriter, read_metrics
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import Transformer
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.text.chat import Chat, load_chat
from phi4r.train.guards import Guards, GuardSettings
from phi4r.train.identity import run_identity
from phi4r.train.losses import make_sft_loss
from phi4r.train.optim import OptimizerSettings, make_optimizer
from phi4r.train.parameters import LoraSettings, Parameters
from phi4r.train.preemption import Preempted, PreemptionNotice
from phi4r.train.results import remove_results, write_results
from phi4r.train.setup import (
    ModelOverrides,
    check_rows,
    host_part,
    host_rows_to_mesh,
    read_model_config,
)
from phi4r.train.state import abstract_state, create_state, state_shardings
from phi4r.train.step import make_update_fn, mean_metrics
from phi4r.train.step_log import StepLog, step_work
from phi4r.typing import Params

EVAL_METRICS = ("eval_loss", "eval_nll", "eval_entropy")


@dataclasses.dataclass(frozen=True)
class SftSettings:
    """A config of SFT; `configs/sft_phi4_reasoning.py` is the paper's.

    Attributes:
      init_from: folder of the model to start from, Hugging Face or Orbax, with its tokenizer.
      data: what is trained on; one batch a step.
      num_steps: updates.
      seed: of the order of the data.
      model: numerics.
      mesh: how devices share the work.
      lora: adapters to train in place of all parameters, or None.
      optimizer: AdamW and its schedule.
      num_microbatches: parts of a batch computed one after the other, to save memory.
      logprob_chunk: positions of a row for which logits exist at a time.
      log_every: steps between lines of metrics.
      save_every: steps between checkpoints; the last step is always saved.
      keep: newest checkpoints kept.
      keep_best: by which held-out metric one more is kept, the best, as {"metric": "eval_loss", "mode": "min"}; a step
        that is the best so far is saved whatever `save_every` says.
      guards: when steps that are not finite stop the run, and what is said of the loss.
      eval_data: held-out data, or None.
      eval_every: steps between held-out losses; the last step always has one.
      eval_batches: batches of `eval_data` in each, always the first ones.
      probe: a development set answered in the middle of the run (Figure 4), or None.
      allow_changed: resume a run whose data, optimizer, seed or length was another; otherwise refused.
      export_dtype: dtype of the Hugging Face folder to write at the end; None writes none.
    """

    init_from: str
    data: DataSettings
    num_steps: int
    seed: int = 0
    model: ModelOverrides = dataclasses.field(default_factory=ModelOverrides)
    mesh: MeshSettings = dataclasses.field(default_factory=MeshSettings)
    lora: LoraSettings | None = None
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    num_microbatches: int = 1
    logprob_chunk: int = 1024
    log_every: int = 10
    save_every: int = 500
    keep: int = 3
    keep_best: KeepBest | None = None
    guards: GuardSettings = dataclasses.field(default_factory=GuardSettings)
    eval_data: DataSettings | None = None
    eval_every: int = 500
    eval_batches: int = 8
    probe: ProbeSettings | None = None
    allow_changed: bool = False
    export_dtype: Literal["float32", "bfloat16"] | None = None

    def __post_init__(self):
        for name in ("num_steps", "num_microbatches", "log_every", "save_every", "keep", "eval_every", "eval_batches"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1.")


def run_sft(settings: SftSettings, workdir: str | os.PathLike) -> dict[str, float]:
    """Trains, saves the final parameters, and returns the metrics of the last step.

    Raises:
      UserError: for settings that do not fit together, bad data, an unwritable workdir or a full disk, or too many
        steps in a row that are not finite.
      Preempted: on SIGTERM, when the state is saved.
    """
    workdir = pathlib.Path(workdir)

    # Sizes and shapes: what can be refused is refused before anything is read or allocated
    config = read_model_config(settings.init_from, settings.model).for_length(settings.data.row_length)
    mesh = make_mesh(settings.mesh, heads=config.heads)
    parameters = Parameters(settings.init_from, config, mesh, settings.lora, seed=settings.seed)
    config = parameters.config
    _check_batches(settings, mesh)
    optimizer, schedule = make_optimizer(settings.optimizer, num_steps=settings.num_steps)
    offload = settings.optimizer.offload
    model = Transformer(config)

    # Data
    chat = load_chat(settings.init_from)
    data = _open_data(settings.data, chat, mesh, config, seed=settings.seed)
    eval_data = settings.eval_data and _open_data(settings.eval_data, chat, mesh, config, seed=settings.seed)

    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.set_mesh(mesh))
        compiles = stack.enter_context(CompileCounter())
        probe = stack.enter_context(open_probe(settings.probe, config, chat, mesh=mesh))
        held_out = EVAL_METRICS * (settings.eval_data is not None) + (probe.metrics if probe else ())
        check_measured(settings.keep_best, held_out, "set eval_data or probe.")

        # State: restored straight into its shards, or made around the loaded parameters; never both
        manager = stack.enter_context(
            CheckpointManager(
                workdir / "checkpoints",
                keep=settings.keep,
                keep_best=settings.keep_best,
                metadata=_identity(settings, config),
                allow_changed=settings.allow_changed,
            )
        )
        restored = manager.restore(abstract_state(parameters.abstract_trained(), optimizer, offload=offload))
        if restored is None:
            state, start = create_state(parameters.initial(), optimizer, offload=offload), 0
        else:
            state, start = restored[0], restored[1]["position"]
        parameters.load_frozen()
        if start < settings.num_steps:
            remove_results(workdir)

        # The loop
        loss_fn = make_sft_loss(model, chunk_size=settings.logprob_chunk)
        update_fn = make_update_fn(
            parameters.policy_loss(loss_fn),
            optimizer,
            num_microbatches=settings.num_microbatches,
            schedule=schedule,
            state_shardings=state_shardings(state),
        )
        eval_fn = jax.jit(loss_fn)
        writer = stack.enter_context(MetricWriter(workdir, resume_step=start, enabled=is_primary()))
        progress = stack.enter_context(Progress("SFT", total=settings.num_steps))
        guards = Guards(settings.guards, workdir)
        if restored is not None:
            guards.resume(restored[1]["guards"])
        notice = stack.enter_context(PreemptionNotice())
        log = StepLog(writer, progress, compiles, guards, log_every=settings.log_every, num_steps=settings.num_steps)
        _, num_hosts = host_part(mesh, settings.data.global_batch)
        batches = stack.enter_context(contextlib.closing(data.batches(start)))
        for step in range(start + 1, settings.num_steps + 1):
            rows = next(batches)
            batch = host_rows_to_mesh(rows, mesh)
            state, metrics = update_fn(state, batch, *parameters.frozen)
            log.add(step, metrics, batch, **step_work(rows.segment_ids, config, num_hosts=num_hosts))
            last, measured = step == settings.num_steps, {}
            if eval_data is not None and (last or step % settings.eval_every == 0):
                log.flush()
                policy = parameters.policy(state.params)
                measured |= _held_out(eval_fn, policy, eval_data, mesh, settings.eval_batches)
                log.write(step, measured)
                log.restart()
            if probe and probe.due(step, settings.num_steps):
                log.flush()
                answered = probe.measure(parameters.policy(state.params))
                measured |= answered
                log.write(step, answered)
                log.restart()
            stop = notice.received(step)
            if stop or last or step % settings.save_every == 0 or manager.improves(measured):
                log.flush()  # the guards look at every step before it is saved
                manager.save(step, state, {"position": step, "guards": guards.state()}, metrics=measured)
                log.restart()
            if stop:
                manager.wait()
                raise Preempted(step)
        manager.wait()

        # Results
        write_results(
            workdir, state.params, parameters, source_folder=settings.init_from, export_dtype=settings.export_dtype
        )
    return log.written or read_metrics(workdir)[-1]


def _check_batches(settings: SftSettings, mesh: jax.sharding.Mesh) -> None:
    """Refuses batches that do not spread over the mesh."""
    data, held_out = settings.data, settings.eval_data
    check_rows(
        mesh, data.global_batch, data.row_length, num_microbatches=settings.num_microbatches, where="data.global_batch"
    )
    if held_out is not None:
        check_rows(mesh, held_out.global_batch, held_out.row_length, where="eval_data.global_batch")


def _identity(settings: SftSettings, config: ModelConfig) -> dict[str, Any]:
    """Returns what decides the result of a run, to be compared on a resume; devices and threads may change."""
    identity = run_identity(settings, config, ("seed", "data", "lora", "optimizer", "num_steps"))
    identity["data"].pop("num_threads")
    return identity


def _open_data(
    settings: DataSettings, chat: Chat, mesh: jax.sharding.Mesh, config: ModelConfig, *, seed: int
) -> TrainData:
    """Opens the part of the data that this host reads, and refuses what the model cannot take."""
    if chat.tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"the tokenizer has ids up to {chat.tokenizer.vocab_size - 1}, but the model has {config.vocab_size}"
            " embeddings; use the tokenizer of the model's own folder."
        )
    index, count = host_part(mesh, settings.global_batch)
    data = TrainData(settings, chat, seed=seed, process_index=index, process_count=count)
    if data.stats.longest > config.max_positions:
        raise UserError(
            f"the longest example has {data.stats.longest} tokens, but the model was made for {config.max_positions}"
            " positions; set model.rope, convert it with --reasoning, or drop long examples by data.row_length."
        )
    if is_primary():
        print(f"phi4r: data: {data.stats}", file=sys.stderr, flush=True)
    return data


def _held_out(eval_fn, params: Params, data: TrainData, mesh: jax.sharding.Mesh, num_batches: int) -> dict:
    """Returns the loss and its metrics over the first batches of held-out data, as `eval_...`."""
    sums = [eval_fn(params, host_rows_to_mesh(data.batch(i), mesh)) for i in range(num_batches)]
    total = jax.tree.map(lambda *parts: np.sum(jax.device_get(parts), dtype=np.float64), *sums)
    return {f"eval_{name}": float(value) for name, value in mean_metrics(total).items()}
