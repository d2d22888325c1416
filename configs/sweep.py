"""A sweep over the mixture, to test the additive property (section 2.2 of the paper, arXiv 2504.21318).

The paper tunes the weights of math alone, then those of code alone, puts both side by side, and finds that the gains
persist (its Figure 5). Here the same is asked in small, on the kind of model that the quickstart trains: "math" is
arithmetic chains, "puzzles" are questions about small mazes, and the solvers of both are the teachers. All
combinations of two factors are run, so that A + B - base can be compared with both together:

    math \\ puzzles   0                      1
    0                base, not trained      250 steps of mazes
    1                250 steps of chains    500 steps, half the examples of each

A step is 8 rows of 256 tokens; what is added to a mixture is trained on in addition (`steps_per_weight`). Seed 0, 200
problems a domain, in percent: math alone 27.0 on math and 0.0 on puzzles, puzzles alone 0.5 and 76.0, both 17.5 and
89.0 where the sum of the gains predicts 27.5 and 76.0; 4 minutes of CPU time. One seed says little:
`--config.seeds="(0, 1, 2)"` gives the interaction a standard deviation.

    phi4r sweep --config=configs/sweep.py --workdir=runs/sweep

A factor may be any key of the base, also several at once, as {"name": "rate", "key": "optimizer.learning_rate",
"values": (1e-5, 2e-5)}. For data of `phi4r curate` the argument `curated` has the clusters of the paper's size in place
of the generated ones; what its factors name is for you to write:

    phi4r sweep --config=configs/sweep.py:curated --workdir=runs/mixture
"""

from ml_collections import ConfigDict

from configs import common

CHAINS = "chains:{split}?num={num}&min_ops=2&max_ops=3"
MAZES = "maze?size=3&wording=short&num={num}&split={split}"


def get_config(size: str = "tiny") -> ConfigDict:
    """Returns the config; `size` is "tiny" or "curated"."""
    return common.of_size(size, {"tiny": tiny, "curated": curated})


def tiny() -> ConfigDict:
    """Two generated domains, in a few minutes on two CPU cores."""
    config = ConfigDict()
    config.experiment = "sweep"
    config.seeds = (0,)
    config.steps_per_weight = 250
    config.on_failure = "continue"
    config.factors = (
        {"name": "math", "key": "data.sources.0.weight", "values": (0.0, 1.0)},
        {"name": "puzzles", "key": "data.sources.1.weight", "values": (0.0, 1.0)},
    )
    config.traces = ConfigDict()
    config.traces.math = CHAINS.format(split="train", num=20_000)
    config.traces.puzzles = MAZES.format(split="train", num=5_000)
    config.random_base = common.small_base()
    config.base = sft()

    sampler = {"prompt_length": 44, "max_response": 72, "page_size": 32}
    config.evaluation = ConfigDict()
    tasks = (f"{CHAINS.format(split='test', num=200)}&name=math", f"{MAZES.format(split='test', num=200)}&name=puzzles")
    config.evaluation.task = " ".join(tasks)
    config.evaluation.num_runs = 1
    config.evaluation.batch_size = 200
    config.evaluation.sampler = sampler
    config.evaluation.decoding = {"temperature": 0.0, "max_tokens": 72}
    config.evaluation.dtype = "float32"
    return config


def sft() -> ConfigDict:
    """What every run has in common."""
    config = ConfigDict()
    config.init_from = "{workdir}/base"
    config.num_steps = 250  # for each unit of weight
    config.num_microbatches = 1
    config.logprob_chunk = 256
    config.log_every = 25
    config.save_every = 500
    config.keep = 1
    config.model = common.tiny_model()
    config.mesh = common.mesh()
    config.data = ConfigDict()
    config.data.sources = (
        {"spec": "jsonl:{workdir}/problems/math.jsonl", "weight": 1.0},
        {"spec": "jsonl:{workdir}/problems/puzzles.jsonl", "weight": 1.0},
    )
    config.data.global_batch = 8
    config.data.row_length = 256
    config.optimizer = common.optimizer()
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 20
    config.optimizer.b2 = 0.98
    config.optimizer.weight_decay = 1e-4
    config.optimizer.end_fraction = 0.01
    return config


def curated() -> ConfigDict:
    """Clusters that `phi4r curate` wrote, on the base of the paper; sizes of the runs are not in the paper."""
    config = tiny()
    del config.traces, config.random_base
    config.steps_per_weight = 0
    config.factors = (
        {"name": "math", "key": "data.sources.0.weight", "values": (0.0, 1.0, 2.0)},
        {"name": "code", "key": "data.sources.1.weight", "values": (0.0, 1.0, 2.0)},
    )
    config.base.init_from = "runs/phi-4-base"
    config.base.num_steps = 1_000
    config.base.logprob_chunk = 2048
    config.base.model = common.model()
    config.base.data.sources = (
        {"spec": "tfds:math_sft/train@runs/curate/data", "weight": 1.0},
        {"spec": "tfds:code_sft/train@runs/curate/data", "weight": 1.0},
    )
    config.base.data.global_batch = 32
    config.base.data.row_length = 32_768
    config.base.optimizer.learning_rate = 1e-5
    config.base.optimizer.warmup_steps = 50
    config.base.optimizer.b2 = 0.95
    config.base.optimizer.end_fraction = 0.1

    config.evaluation.task = "aime_2025?name=math livecodebench?name=code"
    config.evaluation.num_runs = 4
    config.evaluation.batch_size = 500
    config.evaluation.sampler = {"prompt_length": 4096, "max_response": 31_744, "num_slots": 128}
    config.evaluation.sampler["cache_tokens"] = 128 * 14_336
    config.evaluation.decoding = {**common.EVAL_FAMILIES["phi4_reasoning"]["decoding"], "max_tokens": 31_744}
    config.evaluation.dtype = "bfloat16"
    return config
