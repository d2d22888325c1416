"""Group relative policy optimisation (section 4 of the paper): the loop, to be read from top to bottom.

The life of a step: which problems -> a rollout (sample, judge, reward, advantages) -> the frozen reference scores the
same tokens -> trajectories -> one update -> metrics. Problems and random keys are pure functions of seed and step,
so a run started again in the same workdir resumes, and is the uninterrupted run bit for bit.

    WORKDIR/metrics.jsonl, tensorboard/    a line every `log_every` steps
    WORKDIR/rollouts/<step>.arrayrecord    every response with ids, log-probs, verdict and parts of the reward
    WORKDIR/checkpoints/                   the state, the last `keep`
    WORKDIR/params/                        the final parameters with tokenizer and config
    WORKDIR/hf/                            the same as a Hugging Face folder, if asked for
"""

import contextlib
import dataclasses
import os
import pathlib
from typing import Any, Literal

import jax

from phi4r.checkpoint.manager import CheckpointManager
from phi4r.checkpoint.release import load_model
from phi4r.errors import UserError
from phi4r.evals.probe import Probe, ProbeSettings
from phi4r.evals.tasks import check_prompts, load_task
from phi4r.hosts import is_primary
from phi4r.metrics.progress import Progress
from phi4r.metrics.throughput import CompileCounter
from phi4r.metrics.writer import MetricWriter, read_metrics
from phi4r.model.transformer import Transformer
from phi4r.rl.grpo import GrpoSettings, make_grpo_loss
from phi4r.rl.problems import ProblemSet
from phi4r.rl.rewards import RewardSettings
from phi4r.rl.rollout import FallbackVerifier, RolloutEngine, save_rollout
from phi4r.rl.scoring import make_score_fn
from phi4r.rl.trajectories import make_trajectories
from phi4r.sampling import Sampler, SamplerSettings
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.text.chat import load_chat
from phi4r.train.optim import OptimizerSettings, make_optimizer
from phi4r.train.results import remove_results, write_results
from phi4r.train.setup import ModelOverrides, check_rows, params_on_mesh, read_model_config, rows_to_mesh
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
      reward: constants of the reward.
      grpo: group size, constants and conventions of the objective.
      optimizer: AdamW and its schedule.
      verifier_deadline_s: seconds that the judgement of one answer may take.
      num_microbatches: parts of the rollout scored and trained one after the other, to save memory.
      logprob_chunk: positions of a row for which logits exist at a time.
      log_every: steps between lines of metrics.
      save_every: steps between checkpoints; the last step is always saved.
      keep: checkpoints kept.
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
    reward: RewardSettings = dataclasses.field(default_factory=RewardSettings)
    grpo: GrpoSettings = dataclasses.field(default_factory=GrpoSettings)
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    verifier_deadline_s: float = 5.0
    num_microbatches: int = 1
    logprob_chunk: int = 1024
    log_every: int = 1
    save_every: int = 10
    keep: int = 3
    save_rollouts_every: int = 1
    probe: ProbeSettings | None = None
    allow_changed: bool = False
    export_dtype: Literal["float32", "bfloat16"] | None = None

    def __post_init__(self):
        for name in ("num_steps", "problems_per_step", "num_microbatches", "log_every", "save_every"):
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
      UserError: for settings that do not fit together, bad problems, an unwritable workdir, or a non-finite loss.
    """
    workdir = pathlib.Path(workdir)

    # Sizes and shapes: what can be refused is refused before anything is allocated
    row_length = settings.sampler.prompt_length + settings.sampler.max_response
    config = read_model_config(settings.init_from, settings.model).for_length(row_length)
    mesh = make_mesh(settings.mesh, heads=config.heads)
    rows, where = settings.problems_per_step * settings.grpo.group_size, "problems_per_step * grpo.group_size ="
    check_rows(mesh, rows, row_length, num_microbatches=settings.num_microbatches, where=where)
    optimizer, schedule = make_optimizer(settings.optimizer, num_steps=settings.num_steps)
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
                metadata=_identity(settings, task.digest()),
                allow_changed=settings.allow_changed,
            )
        )
        restored = manager.restore(abstract_state(params_on_mesh(config, mesh), optimizer))
        if restored is None:
            params = load_model(settings.init_from, config=config, mesh=mesh).params
            state, start = create_state(params, optimizer), 0
        else:
            state, start = restored[0], restored[1]["position"]
        if start < settings.num_steps:
            remove_results(workdir)
            ref_params = load_model(settings.init_from, config=config, mesh=mesh).params

        # The loop
        model = Transformer(config)
        cost = {"chunk_size": settings.logprob_chunk}
        score_fn = make_score_fn(
            model, temperature=settings.grpo.temperature, num_microbatches=settings.num_microbatches, **cost
        )
        update_fn = make_update_fn(
            make_grpo_loss(model, settings.grpo, **cost),
            optimizer,
            num_microbatches=settings.num_microbatches,
            schedule=schedule,
            state_shardings=state_shardings(state),
        )
        key = jax.random.key(settings.seed)
        writer = stack.enter_context(MetricWriter(workdir, resume_step=start, enabled=is_primary()))
        progress = stack.enter_context(Progress("GRPO", total=settings.num_steps))
        log = StepLog(writer, progress, compiles, log_every=settings.log_every, num_steps=settings.num_steps)
        for step in range(start + 1, settings.num_steps + 1):
            asked = problem_set.at_step(step - 1, settings.problems_per_step)
            rollout = roll_out(sampler.unroll(state.params), asked, jax.random.fold_in(key, step))
            sampled = rows_to_mesh(make_trajectories(rollout.samples, rollout.advantages), mesh)
            trajectories = sampled.replace(ref_logprobs=score_fn(ref_params, sampled.batch))
            state, metrics = update_fn(state, trajectories)
            log.add(step, metrics, extra=rollout.metrics, **step_work(rollout.samples.segment_ids, config))
            if is_primary() and settings.save_rollouts_every and step % settings.save_rollouts_every == 0:
                save_rollout(workdir / "rollouts" / f"{step:06d}.arrayrecord", rollout)
            if probe and probe.due(step, settings.num_steps):
                log.flush()
                log.write(step, probe.measure(state.params))
                log.restart()
            if step == settings.num_steps or step % settings.save_every == 0:
                log.flush()  # raises before a state that is not finite could be saved
                manager.save(step, state, {"position": step})
                log.restart()
        manager.wait()

        # Results
        write_results(
            workdir, state.params, config=config, source_folder=settings.init_from, export_dtype=settings.export_dtype
        )
    return log.written or read_metrics(workdir)[-1]


def _identity(settings: GrpoRunSettings, problems: str) -> dict[str, Any]:
    """Returns what decides the result of a run, to be compared on a resume; devices and bookkeeping may change."""
    values = dataclasses.asdict(settings)
    names = ("seed", "task", "sampler", "num_steps", "problems_per_step", "reward", "grpo", "optimizer")
    return {**{name: values[name] for name in names}, "problems": problems}
