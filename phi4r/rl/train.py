"""Group relative policy optimisation (section 4 of the paper): the loop, to be read from top to bottom.

The life of a step: which problems -> a rollout (sample, judge, reward, advantages) -> trajectories, packed into rows ->
the frozen reference scores the same tokens -> one update or several -> metrics. Problems, random keys and the order of
updates are pure functions of seed and step, so a run started again in the same workdir resumes, and is the
uninterrupted run bit for bit.

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
import functools
import os
import pathlib
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from phi4r.checkpoint.best import KeepBest, check_measured
from phi4r.checkpoint.manager import CheckpointManager
from phi4r.errors import UserError
from phi4r.evals.probe import ProbeSettings, open_probe
from phi4r.evals.specs import load_task
from phi4r.evals.tasks import check_prompts
from phi4r.hosts import is_primary
from phi4r.metrics.progress import Progress
from phi4r.metrics.throughput import CompileCounter
from phi4r.metrics.writer import MetricWriter, read_metrics
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import Transformer
from phi4r.rl.alerts import grpo_alerts
from phi4r.rl.contract import ContractGuards
from phi4r.rl.curriculum import Curriculum, CurriculumSettings
from phi4r.rl.gaps import logprob_gaps
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.judging import FallbackVerifier, Judge
from phi4r.rl.objective import make_grpo_loss
from phi4r.rl.pipeline import PipelinedRollouts, Rollouts, check_devices
from phi4r.rl.problems import ProblemQueue, ProblemSet
from phi4r.rl.records import save_rollout
from phi4r.rl.rewards import RewardSettings
from phi4r.rl.rollout import RolloutEngine
from phi4r.rl.scoring import Scorer
from phi4r.rl.trajectories import PackedShape, pack_trajectories, rows_in_use
from phi4r.rl.updates import split_responses, update_metrics
from phi4r.sampling import Sampler, SamplerSettings
from phi4r.sharding import MeshSettings, batch_shards, make_mesh
from phi4r.text.chat import load_chat
from phi4r.train.guards import GuardSettings
from phi4r.train.identity import run_identity
from phi4r.train.optim import OptimizerSettings, make_optimizer
from phi4r.train.parameters import LoraSettings, Parameters
from phi4r.train.preemption import Preempted, PreemptionNotice
from phi4r.train.results import remove_results, write_results
from phi4r.train.setup import ModelOverrides, read_model_config, rows_to_mesh
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
      num_steps: rollouts, with `grpo.updates_per_rollout` updates each.
      problems_per_step: problems in a rollout.
      max_refills: how often, at most, a step replaces groups whose rewards are all equal by further problems (dynamic
        sampling); 0 keeps them.
      pipeline: whether each rollout is sampled before the updates of the step before it, and judged beside them
        (`phi4r.rl.pipeline`). On one host, which then holds the weights of the sampler during updates too. Needs an
        objective that corrects for it: grpo.old_logprobs="sampler", or grpo.importance_cap.
      curriculum: by which problems that are always or never solved are asked less often, or None.
      seed: of the order of problems and of all sampling.
      model: numerics.
      mesh: how devices share the work.
      lora: adapters to train in place of all parameters, or None; the reference is then the model without them.
      reward: constants of the reward.
      grpo: group size, constants and conventions of the objective.
      optimizer: AdamW and its schedule.
      verifier_deadline_s: seconds that the judgement of one answer may take.
      max_failed_share: share of a step's judgements that may time out or fail; more stop the run, 1 never does.
      num_microbatches: parts of the responses of an update scored and trained one after the other, to save memory; and
        time, because parts that stay empty when responses are packed are left out.
      row_length: tokens of a row into which responses are packed, each with its prompt; 0 for the longest that
        there may be, prompt_length + max_response.
      logprob_chunk: positions of a row for which logits exist at a time.
      log_every: steps between lines of metrics.
      save_every: steps between checkpoints; the last step is always saved.
      keep: newest checkpoints kept.
      keep_best: by which metric of `probe` one more is kept, the best, as {"metric": "dev_accuracy", "mode": "max"}; a
        step that is the best so far is saved whatever `save_every` says.
      guards: when steps that are not finite stop the run. Its loss lies around zero and says nothing about health, so
        nothing is said of it.
      save_rollouts_every: steps between rollouts written to disk; 0 writes none.
      save_logprob_gaps: whether a rollout that is written is first scored by the trainer too, which takes a pass over
        it, so that `phi4r view` can show on which tokens trainer and sampler differ.
      probe: a development set measured in the middle of the run, or None.
      allow_changed: resume a run that had other settings; otherwise refused.
      export_dtype: dtype of the Hugging Face folder to write at the end; None writes none.
    """

    init_from: str
    task: str
    sampler: SamplerSettings
    num_steps: int
    problems_per_step: int = 64
    max_refills: int = 0
    pipeline: bool = False
    curriculum: CurriculumSettings | None = None
    seed: int = 0
    model: ModelOverrides = dataclasses.field(default_factory=ModelOverrides)
    mesh: MeshSettings = dataclasses.field(default_factory=MeshSettings)
    lora: LoraSettings | None = None
    reward: RewardSettings = dataclasses.field(default_factory=RewardSettings)
    grpo: GrpoSettings = dataclasses.field(default_factory=GrpoSettings)
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    verifier_deadline_s: float = 5.0
    max_failed_share: float = 0.5
    num_microbatches: int = 1
    row_length: int = 0
    logprob_chunk: int = 1024
    log_every: int = 1
    save_every: int = 10
    keep: int = 3
    keep_best: KeepBest | None = None
    guards: GuardSettings = dataclasses.field(default_factory=lambda: GuardSettings(spike_factor=0.0))
    save_rollouts_every: int = 1
    save_logprob_gaps: bool = False
    probe: ProbeSettings | None = None
    allow_changed: bool = False
    export_dtype: Literal["float32", "bfloat16"] | None = None

    def __post_init__(self):
        for name in ("num_steps", "problems_per_step", "num_microbatches", "log_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.max_refills < 0:
            raise UserError(f"max_refills={self.max_refills} must be 0 or more.")
        if self.reward.max_length != self.sampler.max_response:
            raise UserError(
                f"reward.max_length={self.reward.max_length} must equal sampler.max_response="
                f"{self.sampler.max_response}: it is the length at which responses are cut off."
            )
        if self.problems_per_step % self.grpo.updates_per_rollout:
            raise UserError(
                f"problems_per_step={self.problems_per_step} do not divide into "
                f"grpo.updates_per_rollout={self.grpo.updates_per_rollout} updates; make it a multiple."
            )
        if self.pipeline and self.grpo.old_logprobs == "trainer" and not self.grpo.importance_cap:
            raise UserError(
                "pipeline=True trains on rollouts of an older policy, for which grpo.old_logprobs='trainer' does not "
                "correct by itself; set grpo.importance_cap (2 is usual), or grpo.old_logprobs='sampler'."
            )

    @property
    def longest(self) -> int:
        """Tokens that prompt and response may have together."""
        return self.sampler.prompt_length + self.sampler.max_response

    def packed_shape(self, mesh: Mesh) -> PackedShape:
        """Returns the shape of the trajectories of an update.

        Raises:
          UserError: if `row_length` does not fit the responses or the mesh.
        """
        return PackedShape.fitting(
            self.problems_per_step // self.grpo.updates_per_rollout * self.grpo.group_size,
            self.longest,
            row_length=self.row_length,
            num_microbatches=self.num_microbatches,
            row_shards=batch_shards(mesh),
            context=mesh.shape["context"],
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
      UserError: for settings that do not fit together, bad problems, an unwritable workdir or a full disk, too many
        steps in a row that are not finite, or a sampler that does not compute the policy that is trained.
      Preempted: on SIGTERM, when the state is saved.
    """
    workdir = pathlib.Path(workdir)

    # Sizes and shapes: what can be refused is refused before anything is allocated
    config = read_model_config(settings.init_from, settings.model).for_length(settings.longest)
    mesh = make_mesh(settings.mesh, heads=config.heads)
    parameters = Parameters(settings.init_from, config, mesh, settings.lora, seed=settings.seed)
    config = parameters.config
    shape = settings.packed_shape(mesh)
    if settings.pipeline:
        check_devices(mesh, max_refills=settings.max_refills)
    num_updates = settings.num_steps * settings.grpo.updates_per_rollout
    optimizer, schedule = make_optimizer(settings.optimizer, num_steps=num_updates)
    offload = settings.optimizer.offload
    if settings.longest > config.max_positions:
        raise UserError(
            f"prompt_length + max_response = {settings.longest} tokens, but the model was made for "
            f"{config.max_positions} positions; shorten them or convert the model with --reasoning."
        )

    # Problems, sampler, judges
    task = load_task(settings.task)
    curriculum = settings.curriculum and Curriculum(settings.curriculum, seed=settings.seed, level=task.level)
    problems = ProblemQueue(ProblemSet(task.problems, seed=settings.seed), curriculum)
    chat = load_chat(settings.init_from)
    tokenizer = chat.tokenizer
    _ = tokenizer.think_id, tokenizer.end_think_id  # refused here, and not after the first rollout
    check_prompts(task, chat, prompt_length=settings.sampler.prompt_length)
    sampler = Sampler(config, settings.sampler, eos_ids=[tokenizer.eos_id], pad_id=tokenizer.pad_id, mesh=mesh)

    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.set_mesh(mesh))
        compiles = stack.enter_context(CompileCounter())
        pool = stack.enter_context(VerifierPool(deadline_s=settings.verifier_deadline_s))
        judge = Judge(chat, task, pool, settings.reward, fallback)
        engine = RolloutEngine(
            sampler, chat, judge, settings.grpo, settings.problems_per_step, max_refills=settings.max_refills
        )
        if settings.pipeline:
            rollouts = PipelinedRollouts(engine, problems, seed=settings.seed, num_steps=settings.num_steps)
        else:
            rollouts = Rollouts(engine, problems, seed=settings.seed)
        stack.enter_context(rollouts)
        probe = stack.enter_context(open_probe(settings.probe, config, chat, mesh=mesh))
        check_measured(settings.keep_best, probe.metrics if probe else (), "set probe.")

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
        ref_params = None
        if start < settings.num_steps:
            remove_results(workdir)
            ref_params = parameters.reference(initial) if settings.grpo.kl_beta else None
        state = create_state(initial, optimizer, offload=offload) if restored is None else restored[0]

        # The loop
        chunk_size, num_microbatches = settings.logprob_chunk, settings.num_microbatches
        score = Scorer(config, settings.grpo, chunk_size=chunk_size, num_microbatches=num_microbatches)
        gaps_of = functools.partial(
            logprob_gaps,
            score_fn=score.score_policy,
            shape=shape,
            mesh=mesh,
            num_parts=settings.grpo.updates_per_rollout,
        )
        update_fn = make_update_fn(
            parameters.policy_loss(make_grpo_loss(Transformer(config), settings.grpo, chunk_size=chunk_size)),
            optimizer,
            num_microbatches=num_microbatches,
            schedule=schedule,
            state_shardings=state_shardings(state),
            rows_in_use=rows_in_use,
        )
        writer = stack.enter_context(MetricWriter(workdir, resume_step=start, enabled=is_primary()))
        progress = stack.enter_context(Progress("GRPO", total=settings.num_steps))
        alerts = grpo_alerts(
            max_response=settings.sampler.max_response,
            deadline_s=settings.verifier_deadline_s,
            max_failed_share=settings.max_failed_share,
            float32=config.dtype == "float32",
        )
        guards = ContractGuards(settings.guards, workdir, alerts, max_logprob_gap=settings.grpo.max_logprob_gap)
        if restored is not None:
            guards.resume(restored[1]["guards"])
            rollouts.resume(restored[1])
        notice = stack.enter_context(PreemptionNotice())
        log = StepLog(writer, progress, compiles, guards, log_every=settings.log_every, num_steps=settings.num_steps)
        for step in range(start + 1, settings.num_steps + 1):
            policy = parameters.policy(state.params)
            rollout = rollouts.next(step, policy)
            packed = [
                pack_trajectories(rollout.samples, rollout.advantages, shape, responses)
                for responses in split_responses(rollout.samples, settings.grpo, seed=settings.seed, step=step)
            ]
            work = step_work(np.concatenate([rows.batch.segment_ids for rows in packed]), config)
            batches = [score(rows_to_mesh(rows, mesh), policy, ref_params) for rows in packed]
            saved = settings.save_rollouts_every and step % settings.save_rollouts_every == 0
            gaps = gaps_of(rollout.samples, policy) if saved and settings.save_logprob_gaps else None
            updates = []
            for trajectories in batches:
                state, metrics = update_fn(state, trajectories, *parameters.frozen)
                updates.append(metrics)
            log.add(step, update_metrics(updates), batches, extra=rollout.metrics, **work)
            last, measured = step == settings.num_steps, {}
            if is_primary() and saved:
                save_rollout(workdir / "rollouts" / f"{step:06d}.arrayrecord", rollout, tokenizer, logprob_gaps=gaps)
            if probe and probe.due(step, settings.num_steps):
                log.flush()
                measured = probe.measure(parameters.policy(state.params))
                log.write(step, measured)
                log.restart()
            stop = notice.received(step)
            if stop or last or step % settings.save_every == 0 or manager.improves(measured):
                jax.block_until_ready(state)
                sampled = rollouts.state()  # waits for a rollout that is ahead: time of the step, and not of saving
                log.flush()  # the guards look at every step before it is saved
                data_state = {"position": step, "guards": guards.state(), **sampled}
                manager.save(step, state, data_state, metrics=measured)
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
    settings = dataclasses.replace(settings, grpo=dataclasses.replace(settings.grpo, max_logprob_gap=0.0))
    names = ("seed", "task", "sampler", "num_steps", "problems_per_step", "max_refills", "curriculum", "lora", "reward")
    names += ("pipeline", "grpo", "optimizer")
    return run_identity(settings, config, names, problems=problems)
