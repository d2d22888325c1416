"""GRPO on the generated tasks of the paper's evaluation, whose report names them as environments for future work.

Each argument is an environment, small enough that a model learns it from nothing on two CPU cores, by the stages of
the quickstart (`configs/quickstart.py`):

    base     random weights in the shape of phi-4: 0.4M parameters
    SFT      the solver's thoughts, a few hundred steps, on easy problems where the task has easy and hard ones
    GRPO     problems without end, hard ones, without thoughts: the paper's reward and objective, and a curriculum
    test     500 problems like those of GRPO, of the split "test"; greedy, and four runs at temperature 0.8

SFT that was merely stopped early, on problems as hard as those of GRPO, was tried for maze (12 steps of GRPO) and
flenqa (20): the accuracy of rollouts did not rise. Hence easy problems for SFT, where a task has them.

The curriculum keeps a running pass rate for every level of the task, and asks levels that are solved always or never
less often; metrics.jsonl has it as `pass_rate_LEVEL`. The function of each environment says what is asked, what a
level is, and what was measured: greedy and T = 0.8 accuracy on the test problems, before GRPO and after, with seed 0 on
2026-11-30 on 2 CPU cores. Where nothing was measured to the end, it says so.

    python -m phi4r.main --config=configs/grpo_envs.py:maze --workdir=runs/maze
"""

from ml_collections import ConfigDict

from configs import common

ABOUT = (
    " SFT taught the solver's thoughts; GRPO then saw problems without end and only the reward. The models are tested "
    "on 500 problems that none of them has seen."
)


def get_config(env: str = "maze") -> ConfigDict:
    """Returns the config of an environment: "maze", "3sat", "tsp", "ba_calendar", "spatial_map" or "flenqa"."""
    envs = {"maze": maze, "3sat": sat, "tsp": tsp, "ba_calendar": ba_calendar, "spatial_map": spatial_map}
    return common.of_size(env, {**envs, "flenqa": flenqa})


def maze() -> ConfigDict:
    """Mazes of 3 x 3 cells: right turns of the marked path, turns at all, or where E lies.

    Level: moves of the path; 1 to 3 for SFT, 4 to 8 for GRPO and the test.
    Measured: greedy 36.6% -> 48.2%, T = 0.8 34.3% -> 45.4% (+11.1 points, 95% interval +7.3 to +14.9); SFT 3
    minutes and GRPO 9 on a machine that was busy with other work.
    """
    return environment(
        "maze?size=3&wording=short",
        easy="max_path=3",
        hard="min_path=4&max_path=8",
        about=(
            "Questions about the marked path of a maze of 3 x 3 cells: 1 to 3 moves for SFT, 4 to 8 for GRPO and the "
            "test."
        ),
        sft_steps=300,
        problems_per_step=64,
    )


def sat() -> ConfigDict:
    """Formulas of 3 variables: a model, found by looking up the clause that each assignment makes false.

    No levels: SFT has 6 clauses, GRPO and the test 13, so more assignments are dead ends and more clauses stand beside
    the one that is looked for.
    Measured: greedy 50.2% -> 56.4%, T = 0.8 44.9% -> 54.0% (+9.2 points, 95% interval +5.9 to +12.3); a guess has
    three tenths; SFT 3 minutes and GRPO 4 on a machine that was busy with other work. Thoughts that only listed dead
    ends, of 3 or 4 variables, gave no gain (31.1% -> 31.5%).
    """
    return environment(
        "3sat?min_vars=3&max_vars=3&wording=short",
        easy="cell=under",
        hard="cell=hard-many",
        about=(
            "Models of formulas of 3 variables, found by looking clauses up: 6 clauses for SFT, 13 for GRPO and the "
            "test."
        ),
        sft_steps=400,
        curriculum=False,
    )


def tsp() -> ConfigDict:
    """Four cities: the shortest of the three tours, found by adding up all of them.

    No levels: the thought for five cities is five times as long.
    Measured: greedy 53.4% -> 56.4%, T = 0.8 48.8% -> 54.0% (+5.2 points, 95% interval +1.9 to +8.5); a guess has a
    third. SFT 3 minutes and GRPO 4 on a machine that was busy with other work.
    """
    return environment(
        "tsp?min_cities=4&max_cities=4&wording=short",
        about="The shortest of the three tours through four cities.",
        sft_steps=500,
        curriculum=False,
    )


def ba_calendar() -> ConfigDict:
    """A day of 12 hours in which two people have time for a meeting.

    Level: tenth of constrainedness; 0.0 to 0.4 for SFT, 0.5 to 0.9 for GRPO and the test, where a slot comes late.
    Where no such day is found the nearest is taken, so a few are of 0.4 or 1.0 (no slot, which SFT has never seen).
    Measured: greedy 57.6% -> 62.0%, T = 0.8 56.9% -> 62.6% (+5.7 points, 95% interval +3.4 to +8.1); SFT 2
    minutes and GRPO 5 on a machine that was busy with other work.
    """
    return environment(
        "ba_calendar?participants=2&days=1&hours=12&grid=60&constraints=0&wording=short",
        easy="max_bucket=4",
        hard="min_bucket=5&max_bucket=9",
        about=(
            "A time at which two people can meet, in a day of 12 hours: both have much time for SFT, and little for "
            "GRPO and the test."
        ),
        sft_steps=250,
    )


def spatial_map() -> ConfigDict:
    """Three or four places: in which direction of one another lies.

    Level: statements that the longest chain of the answer takes.
    Measured: greedy 80.8% -> 86.0%, T = 0.8 77.3% -> 84.0% (+6.7 points, 95% interval +4.0 to +9.3); SFT 2 minutes
    and GRPO 1 and a half.
    """
    return environment(
        "spatial_map?min_objects=3&objects=4&question=direction&wording=short",
        about="The direction in which one of three or four places lies from another.",
        sft_steps=500,
    )


def flenqa() -> ConfigDict:
    """Who is in a room with walls of which colour, by two facts among others.

    Level: letters of all facts, three each; 6 or 9 for SFT, 12 to 24 for GRPO and the test.
    Measured: greedy 63.8% -> 67.6%, T = 0.8 62.0% -> 67.6% (+5.7 points, 95% interval +0.9 to +10.5); a guess has
    half. SFT 2 minutes and GRPO 2 on a machine that was busy with other work.
    """
    return environment(
        "flenqa?kind=rooms&padding=resample&dispersion=random&wording=short",
        easy="length=0,9",
        hard="length=12,18,24",
        about=(
            "Whether somebody is in a room with walls of some colour, by two facts: at most one other stands beside "
            "them for SFT, two to six for GRPO and the test."
        ),
        sft_steps=600,
    )


def environment(
    task: str,
    *,
    about: str,
    sft_steps: int,
    easy: str = "",
    hard: str = "",
    prompt_length: int = 66,
    max_response: int = 84,
    problems_per_step: int = 32,
    curriculum: bool = True,
) -> ConfigDict:
    """Returns the stages of the quickstart on a generated task.

    Args:
      task: its spec, without the number of problems, seed and split.
      about: what is asked, for the report.
      sft_steps: steps of SFT.
      easy: further parameters of the problems for SFT.
      hard: further parameters of all other problems.
      prompt_length: tokens that a prompt may have.
      max_response: tokens of a response at which it is cut off; at least 5/4 of the longest thought, the paper's share.
      problems_per_step: problems of a rollout, with 8 responses each.
      curriculum: whether the task has levels of difficulty.
    """
    sampler = {"prompt_length": prompt_length, "max_response": max_response, "page_size": 32}
    easy, hard = (f"{task}&{parameters}".rstrip("&") for parameters in (easy, hard))
    config = ConfigDict()
    config.experiment = "quickstart"
    config.seed = 0
    config.about = about + ABOUT
    config.base = common.small_base()
    config.problems = ConfigDict({"sft": f"{easy}&num=20000&split=train"})
    config.problems.test = f"{hard}&num=500&seed=0&split=test"
    config.sft = sft(sft_steps)
    config.grpo = grpo(f"{hard}&num=1000000&seed=1000&split=train", sampler)
    config.grpo.problems_per_step = problems_per_step
    if curriculum:
        # A quarter of the turns outside the band are asked all the same: a level that is learnt stays learnt.
        config.grpo.curriculum = {"by": "level", "low": 0.05, "high": 0.95, "outside_share": 0.25, "memory": 0.5}
    for part in (config.sft, config.grpo):
        part.probe = {"task": f"{hard}&num=200&seed=0&split=dev", "sampler": dict(sampler)}
    config.sft.probe.every = 100
    config.grpo.probe.every = 10

    config.evaluation = ConfigDict()
    config.evaluation.model = ""  # each model in turn
    config.evaluation.task = f"{config.problems.test}&name=test"
    config.evaluation.num_runs = 4
    config.evaluation.batch_size = 500
    config.evaluation.sampler = dict(sampler)
    config.evaluation.decoding = {"temperature": 0.8, "top_p": 1.0, "top_k": 0, "max_tokens": max_response}
    config.evaluation.dtype = "float32"
    return config


def sft(num_steps: int) -> ConfigDict:
    """Learning to think, on easy problems."""
    config = ConfigDict()
    config.init_from = "{workdir}/base"
    config.num_steps = num_steps
    config.num_microbatches = 1
    config.logprob_chunk = 512
    config.log_every = 10
    config.save_every = 200
    config.keep = 1
    config.model = common.tiny_model()
    config.mesh = common.mesh()
    config.data = ConfigDict()
    config.data.sources = ({"spec": "tfds:quickstart_sft/train@{workdir}/problems/data", "weight": 1.0},)
    config.data.global_batch = 8
    config.data.row_length = 256
    config.data.position_stretch = 2.0  # longer thoughts than these are in range
    config.optimizer = common.optimizer()
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 20
    config.optimizer.b2 = 0.98
    config.optimizer.end_fraction = 0.01
    config.optimizer.weight_decay = 1e-4
    return config


def grpo(task: str, sampler: dict[str, int]) -> ConfigDict:
    """Learning from the reward alone."""
    config = ConfigDict()
    config.init_from = "{workdir}/sft/params"
    config.task = task
    config.num_steps = 30
    # Responses are packed into rows for the longest, half of which stay empty; parts without any are left out.
    config.num_microbatches = 8
    config.row_length = 256
    config.logprob_chunk = 512
    config.log_every = 1
    config.save_every = 15
    config.keep = 1
    config.save_rollouts_every = 10
    config.model = common.tiny_model()
    config.mesh = common.mesh()
    config.sampler = dict(sampler)

    # The paper's shares of L_max, 25,600 and 3,702 of 31,744.
    max_response = sampler["max_response"]
    config.reward = ConfigDict()
    config.reward.max_length = max_response
    config.reward.positive_control_length = max_response * 25_600 // 31_744
    config.reward.negative_control_length = max_response * 3_702 // 31_744

    config.grpo = common.grpo()
    config.optimizer = common.optimizer()
    config.optimizer.learning_rate = 2e-4
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 5
    config.optimizer.weight_decay = 0.0
    return config
