"""Phi-4-reasoning-plus: GRPO from Phi-4-reasoning on verifiable mathematics (section 4 of the paper, arXiv 2504.21318).

72,401 seed problems, 64 a step, 8 responses each, up to 31,744 tokens; about 90 steps of one update each.

    responses a step    64 * 8 = 512, at a mean of about 11k tokens 5.6 million tokens
    longest row         1,024 prompt + 31,744 response = 32,768 tokens, the context of the model
    cache               200 KiB a token in bfloat16: 6.25 GiB for each full row, 1,400 GiB for 14,336 tokens of each
    memory              decoding holds a bfloat16 copy of the weights, 27.3 GiB over sampler.tensor devices, besides the
                        cache; slices on which the run fits are in benchmarks/PLANS.md (compiled, not run)
    reward              8/13 (accuracy shaped by length and format, in [-1, 1]) + 1/13 (repetition)
    time                the paper: 32 H100; 90 steps to the released checkpoint, the one with the best AIME 24
    number              AIME 25 63.1 -> 78.0, Omni-MATH 76.6 -> 81.9, AIME 83-24 83.1 -> 89.4 (table 1)

    python -m phi4r.main --config=configs/grpo_phi4_reasoning_plus.py --workdir=runs/grpo

The argument `tiny` takes the same path in a minute on a laptop, with the model of the quickstart:

    make quickstart
    python -m phi4r.main --config=configs/grpo_phi4_reasoning_plus.py:tiny --workdir=runs/grpo_tiny

AIME 24 is measured every 10 steps and the best checkpoint stays; without a network say where it is, or measure nothing:
`--config.probe.task=aime_2024:FILE`, `--config.probe.task= --config.keep_best.metric=`.

`dapo`, `dr_grpo`, `gspo`, `cispo` and `rloo` are the same run with another published objective, `tiny_dapo` and so on
the same in small.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(size: str = "paper") -> ConfigDict:
    """Returns the config; `size` is "paper" or "tiny", or another objective in either: "dapo", "tiny_dapo"."""
    sizes = {"paper": paper, "tiny": tiny}
    for preset in list(common.GRPO_PRESETS)[1:]:  # but for the paper's own
        sizes[preset] = lambda preset=preset: with_objective(paper(), preset)
        sizes[f"tiny_{preset}"] = lambda preset=preset: with_objective(tiny(), preset)
    return common.of_size(size, sizes)


def paper() -> ConfigDict:
    """The published run."""
    config = ConfigDict()
    config.experiment = "grpo"
    config.seed = 0
    config.init_from = "runs/sft/params"
    config.task = "jsonl:data/problems.jsonl"  # {"prompt": ..., "answer": ...} a line
    config.num_steps = 90  # the released checkpoint
    config.problems_per_step = 64
    config.max_refills = 0  # not in the paper
    config.num_microbatches = 16  # not in the paper
    config.row_length = 0  # that of the longest response with its prompt
    config.logprob_chunk = 2048  # positions a row with logits at a time: 2048 * 100,352 * 4 bytes = 0.77 GiB
    config.verifier_deadline_s = 5.0  # not in the paper
    config.max_failed_share = 0.5  # not in the paper
    config.log_every = 1
    config.save_every = 10
    config.keep = 3
    config.save_rollouts_every = 1
    config.save_logprob_gaps = False  # True takes a pass over each rollout, for `phi4r view`
    config.export_dtype = "bfloat16"

    # The released checkpoint is the one with the best AIME 24; how often that was measured is not in the paper. 30
    # problems * 4 answers * 11k tokens are 1.3 million tokens every 10 steps, 2% of what the rollouts have.
    config.keep_best = {"metric": "dev_accuracy", "mode": "max"}
    config.probe = common.probe("aime_2024", every=10, num_runs=4, max_response=31_744)

    config.model = common.model()
    config.mesh = common.mesh()
    config.guards = common.guards()
    config.guards.spike_factor = 0.0  # its loss lies around zero, where jumps mean nothing

    config.sampler = ConfigDict()
    config.sampler.prompt_length = 1024
    config.sampler.max_response = 31_744
    # Not in the paper. All responses of a step at a time, with pages for 14,336 tokens of each: the mean is about 11k,
    # and where more are needed the youngest wait. Over pairs of 32 H100 these are 43.8 GiB a GPU, the weights 13.7.
    config.sampler.num_slots = 512
    config.sampler.cache_tokens = 512 * 14_336
    config.sampler.tensor = 2

    config.reward = ConfigDict()
    config.reward.max_length = 31_744
    config.reward.positive_control_length = 25_600
    config.reward.negative_control_length = 3_702
    config.reward.parts = (
        {"name": "accuracy", "weight": 8 / 13},
        {"name": "repetition", "weight": 1 / 13},
    )

    config.grpo = common.grpo()

    config.optimizer = common.optimizer()
    config.optimizer.learning_rate = 5e-8
    config.optimizer.warmup_steps = 10
    config.optimizer.schedule = "constant"  # not in the paper
    config.optimizer.weight_decay = 0.0  # the paper says Adam
    return config


def with_objective(config: ConfigDict, preset: str) -> ConfigDict:
    """Returns the config with a published objective in place of the paper's."""
    config.grpo = common.grpo(preset, max_response=config.sampler.max_response)
    if preset == "dapo":
        config.reward.parts += ({"name": "overlong", "weight": 1.0},)
        config.reward.overlong_buffer = config.sampler.max_response // 5  # 4,096 of 20,480 in DAPO
        config.max_refills = 4  # DAPO samples until a batch is full
    return config


def tiny() -> ConfigDict:
    """The same path in small: the quickstart's SFT model on chains a little longer than it was taught."""
    config = paper()
    config.init_from = "runs/quickstart/sft/params"
    config.task = "chains:train?num=2000&min_ops=6&max_ops=7"
    config.num_steps = 4
    config.problems_per_step = 16
    config.num_microbatches = 2
    config.logprob_chunk = 64
    config.save_every = 2

    config.probe.task = "chains:dev?num=32&min_ops=6&max_ops=7"
    config.probe.every = 2
    config.probe.num_runs = 1
    config.probe.sampler = {"prompt_length": 24, "max_response": 32, "page_size": 32}

    config.model = common.tiny_model()

    config.sampler.prompt_length = 24
    config.sampler.max_response = 32
    config.sampler.num_slots = 128
    del config.sampler.cache_tokens  # a place for all
    config.sampler.page_size = 32  # a prompt fills most of one
    config.sampler.tensor = 1

    # The paper's proportions of L_max.
    config.reward.max_length = 32
    config.reward.positive_control_length = 26
    config.reward.negative_control_length = 4

    config.optimizer.learning_rate = 1e-4
    config.optimizer.warmup_steps = 2
    return config
