"""Group relative policy optimisation (section 4 of the paper): the loop, to be read from top to bottom.

The life of a step: which problems -> a rollout (sample, judge, reward, advantages) -> the frozen reference scores the
same tokens -> trajectories -> one update -> metrics. Problems and random keys are pure functions of seed and step,
so a run started again in the same workdir resumes, and is the uninterrupted run bit for bit.

    WORKDIR/metrics.jsonl, tensorboard/    a line every `log_every` steps
    WORKDIR/rollouts/<step>.arrayrecord    every response with ids, log-probs, verdict and parts of the reward
    WORKDIR/checkpoints/                   the state, the last `keep` and the best
    WORKDIR/nonfinite/<step>.npz           the trajectories at which a run of steps that were not finite was stopped
    WORKDIR/params/                        the final parameters with tokenizer and config
    WORKDIR/hf/                            the same as a Hugging Face folder, if asked for
    WORKDIR/adapter/                       under `lora`, the adapters as PEFT stores them; the others are merged
"""

import contextlib
import dataclasses
import os
import pathlib
from typing import Any, Literal

import jax

from phi4r.checkpoint.best import KeepBest, check_measured
from phi4r.checkpoint.manager import CheckpointManager
from phi4r.errors import UserError
from phi4r.evals.probe import PROBE_METRICS, Probe, ProbeSettings
from phi4r.evals.tasks import check_prompts, load_task
from phi4r.hosts import is_primary
from phi4r.metrics.progress import Progress
from phi4r.metrics.throughput import CompileCounter
from phi4r.metrics.writer import MetricWriter, read_metrics
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import Transformer
from phi4r.rl.alerts import grpo_alerts
from phi4r.rl.grpo import GrpoSettings, make_grpo_loss
from phi4r.rl.problems import ProblemSet
from phi4r.rl.rewards import RewardSettings
from phi4r.rl.rollout import FallbackVerifier, RolloutEngine, save_rollout
from phi4r.rl.scoring import make_score_fn
from phi4r.rl.trajectories import make_trajectories
from phi4r.sampling import Sampler, SamplerSettings
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.text.chat import load_chat
from phi4r.train.guards import Guards, GuardSettings
from phi4r.train.identity import run_identity
from phi4r.train.optim import OptimizerSettings, make_optimizer
from phi4r.train.parameters import LoraSettings, Parameters
from phi4r.train.preemption import Preempted, PreemptionNotice
from phi4r.train.results import remove_results, write_results
from phi4r.train.setup import ModelOverrides, check_rows, read_model_config, rows_to_mesh
from phi4r.train.state import abstract_state, create_state, state_shardings
from phi4r.train.step import make_update_fn
from phi4r.train.step_log import StepLog, step_work
from phi4r.verifiers.pool import VerifierPool


@dataclasses.dataclass(frozen=True)
class GrpoRunSettings:
    """A config of GRPO; `configs/grpo_phi4_reasoning_plus.py` is the paper's.

    Attributes:
      init_from: folder of the model to start from, which is also the frozen reference.
      task: spec of the problems and their verifier (`phi4r.evals.tasks`).
      sampler: fixed shapes of the rollouts.
      num_steps: updates, one for each rollout.
      problems_per_step: problems in a rollout.
      seed: of the order of problems and of all sampling.
      model: numerics.
      mesh: how devices share the work.
      lora: adapters to train in place of all parameters, or None; the reference is then the model without them.
      reward: constants of the reward.
      grpo: group size, constants and conventions of the objective.
      optimizer: AdamW and its schedule.
      verifier_deadline_s: seconds that the judgement of one answer may take.
      num_microbatches: parts of the rollout scored and trained one after the other, to save memory.
      logprob_chunk: positions of a row for which logits exist at a time.
      log_every: steps between lines of metrics.
      save_every: steps between checkpoints; the last step is always saved.
      keep: newest checkpoints kept.
      keep_best: by which metric of `probe` one more is kept, the best, as {"metric": "dev_accuracy", "mode": "max"}; a
        step that is the best so far is saved whatever `save_every` says.
      guards: when steps that are not finite stop the run, and what is said of the loss.
      save_rollouts_every: steps between rollouts written to disk; 0 writes none.
      probe: a development set measured in the middle of the run, or None.
      allow_changed: resume a run that had other settings; otherwise refused.
      export_dtype: dtype of the Hugging Face folder to write at the end; None writes none.
    """

    init_from: str
    task: str
    sampler: SamplerSettings
    num_steps: int
    problems_per_step: int = 64
    seed: int = 0
    model: ModelOverrides = dataclasses.field(default_factory=ModelOverrides)
    mesh: MeshSettings = dataclasses.field(default_factory=MeshSettings)
    lora: LoraSettings | None = None
    reward: RewardSettings = dataclasses.field(default_factory=RewardSettings)
    grpo: GrpoSettings = dataclasses.field(default_factory=GrpoSettings)
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    verifier_deadline_s: float = 5.0
    num_microbatches: int = 1
    logprob_chunk: int = 1024
    log_every: int = 1
    save_every: int = 10
    keep: int = 3
    keep_best: KeepBest | None = None
    guards: GuardSettings = dataclasses.field(default_factory=GuardSettings)
    save_rollouts_every: int = 1
    probe: ProbeSettings | None = None
    allow_changed: bool = False
    export_dtype: Literal["float32", "bfloat16"] | None = None

    def __post_init__(self):
        for name in ("num_steps", "problems_per_step", "num_microbatches", "log_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.reward.max_length != self.sampler.max_response:
            raise UserError(
                f"reward.max_length={self.reward.max_length} must equal sampler.max_response="
                f"{self.sampler.max_response}: it is the length at which responses are cut off."
            )


def run_grpo(
    settings: GrpoRunSettings, workdir: str | os.PathLike, *, fallback: FallbackVerifier | None = None
) -> dict[str, float]:
    """Trains, saves the final parameters, and returns the metrics of the last step.

    Args:
      settings: the run.
      workdir: made if missing; resumed if it holds a run of the same settings.
      fallback: judges responses in which no answer can be found; the paper asks a language model.

    Raises:
      UserError: for settings that do not fit together, bad problems, an unwritable workdir or a full disk, or too many
        steps in a row that are not finite.
      Preempted: on SIGTERM, when the state is saved.
    """
    workdir = pathlib.Path(workdir)

    # Sizes and shapes: what can be refused is refused before anything is allocated
    row_length = settings.sampler.prompt_length + settings.sampler.max_response
    config = read_model_config(settings.init_from, settings.model).for_length(row_length)
    mesh = make_mesh(settings.mesh, heads=config.heads)
    parameters = Parameters(settings.init_from, config, mesh, settings.lora, seed=settings.seed)
    config = parameters.config
    rows, where = settings.problems_per_step * settings.grpo.group_size, "problems_per_step * grpo.group_size"
    check_rows(mesh, rows, row_length, num_microbatches=settings.num_microbatches, where=where)
    optimizer, schedule = make_optimizer(settings.optimizer, num_steps=settings.num_steps)
    offload = settings.optimizer.offload
    check_measured(settings.keep_best, PROBE_METRICS * (settings.probe is not None), "set probe.")
    if row_length > config.max_positions:
        raise UserError(
            f"prompt_length + max_response = {row_length} tokens, but the model was made for {config.max_positions} "
            "positions; shorten them or convert the model with --reasoning."
        )

    # Problems, sampler, judges
    task = load_task(settings.task)
    problem_set = ProblemSet(task.problems, seed=settings.seed)
    chat = load_chat(settings.init_from)
    tokenizer = chat.tokenizer
    _ = tokenizer.think_id, tokenizer.end_think_id  # refused here, and not after the first rollout
    check_prompts(task, chat, prompt_length=settings.sampler.prompt_length)
    sampler = Sampler(config, settings.sampler, eos_ids=[tokenizer.eos_id], pad_id=tokenizer.pad_id, mesh=mesh)

    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.set_mesh(mesh))
        compiles = stack.enter_context(CompileCounter())
        pool = stack.enter_context(VerifierPool(deadline_s=settings.verifier_deadline_s))
        roll_out = RolloutEngine(sampler, chat, task, pool, settings.grpo, settings.reward, fallback)
        probe = settings.probe and stack.enter_context(Probe(settings.probe, config, chat, mesh=mesh))

        # State: restored straight into its shards, or made around the loaded parameters; and the frozen reference
        manager = stack.enter_context(
            CheckpointManager(
                workdir / "checkpoints",
                keep=settings.keep,
                keep_best=settings.keep_best,
                metadata=_identity(settings, config, task.digest()),
                allow_changed=settings.allow_changed,
            )
        )
        restored = manager.restore(abstract_state(parameters.abstract_trained(), optimizer, offload=offload))
        start = 0 if restored is None else restored[1]["position"]
        parameters.load_frozen()
        initial = parameters.initial() if restored is None else None
        if start < settings.num_steps:
            remove_results(workdir)
            ref_params = parameters.reference(initial)
        state = create_state(initial, optimizer, offload=offload) if restored is None else restored[0]

        # The loop
        model = Transformer(config)
        cost = {"chunk_size": settings.logprob_chunk}
        score_fn = make_score_fn(
            Transformer(config.replace(lora=None)),
            temperature=settings.grpo.temperature,
            num_microbatches=settings.num_microbatches,
            **cost,
        )
        update_fn = make_update_fn(
            parameters.policy_loss(make_grpo_loss(model, settings.grpo, **cost)),
            optimizer,
            num_microbatches=settings.num_microbatches,
            schedule=schedule,
            state_shardings=state_shardings(state),
        )
        key = jax.random.key(settings.seed)
        writer = stack.enter_context(MetricWriter(workdir, resume_step=start, enabled=is_primary()))
        progress = stack.enter_context(Progress("GRPO", total=settings.num_steps))
        alerts = grpo_alerts(
            max_response=settings.sampler.max_response,
            deadline_s=settings.verifier_deadline_s,
            float32=config.dtype == "float32",
        )
        guards = Guards(settings.guards, workdir, alerts)
        if restored is not None:
            guards.resume(restored[1]["guards"])
        notice = stack.enter_context(PreemptionNotice())
        log = StepLog(writer, progress, compiles, guards, log_every=settings.log_every, num_steps=settings.num_steps)
        for step in range(start + 1, settings.num_steps + 1):
            asked = problem_set.at_step(step - 1, settings.problems_per_step)
            rollout = roll_out(sampler.unroll(parameters.policy(state.params)), asked, jax.random.fold_in(key, step))
            sampled = rows_to_mesh(make_trajectories(rollout.samples, rollout.advantages), mesh)
            trajectories = sampled.replace(ref_logprobs=score_fn(ref_params, sampled.batch))
            state, metrics = update_fn(state, trajectories, *parameters.frozen)
            work = step_work(rollout.samples.segment_ids, config)
            log.add(step, metrics, trajectories, extra=rollout.metrics, **work)
            last, measured = step == settings.num_steps, {}
            if is_primary() and settings.save_rollouts_every and step % settings.save_rollouts_every == 0:
                save_rollout(workdir / "rollouts" / f"{step:06d}.arrayrecord", rollout)
            if probe and probe.due(step, settings.num_steps):
                log.flush()
                measured = probe.measure(parameters.policy(state.params))
                log.write(step, measured)
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


def _identity(settings: GrpoRunSettings, config: ModelConfig, problems: str) -> dict[str, Any]:
    """Returns what decides the result of a run, to be compared on a resume; devices and bookkeeping may change."""
    names = ("seed", "task", "sampler", "num_steps", "problems_per_step", "lora", "reward", "grpo", "optimizer")
    return run_identity(settings, config, names, problems=problems)
