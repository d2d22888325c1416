"""The evaluation protocol of Phi-4-reasoning-plus (section 5 of the paper, arXiv 2504.21318), on AIME 2025.

30 problems, 50 runs each, at the release's decoding: temperature 0.8, top-p 0.95, top-k 50, up to 65,536 tokens. One
run of 30 problems has a standard deviation of 4 to 6 points, so a single one says little: hence 50.

    responses    30 * 50 = 1,500, at a mean of about 15k tokens 22 million tokens
    cache        200 KiB a token in bfloat16: 13 GiB for a row of 1,024 + 65,536 tokens, 104 GiB for a wave of 8
    positions    the model was trained on 32,768; responses past that extrapolate, as the paper's do
    number       78.0 (sd 4.6) for Phi-4-reasoning-plus, 63.1 (sd 6.3) for Phi-4-reasoning (table 1)

The task is a file of one problem a line: {"id": "2025-I-1", "prompt": "...", "answer": "70"}. Other reasoning sets are
asked 5 times (`--config.num_runs=5`).

    python -m phi4r.main --config=configs/eval_reasoning.py --workdir=runs/eval_aime25
    python -m phi4r.main --config=configs/eval_reasoning.py --workdir=runs/eval_sft --config.model=runs/sft/params

The argument `tiny` takes the same path in a minute on a laptop, with the model of the quickstart:

    make quickstart
    python -m phi4r.main --config=configs/eval_reasoning.py:tiny --workdir=runs/eval_tiny
"""

from ml_collections import ConfigDict

from configs import common


def get_config(size: str = "paper") -> ConfigDict:
    """Returns the config; `size` is "paper" or "tiny"."""
    sizes = {"paper": paper, "tiny": tiny}
    if size not in sizes:
        raise ValueError(f"{size!r} is not a size of this config; take {' or '.join(sizes)}.")
    return sizes[size]()


def paper() -> ConfigDict:
    """The published protocol."""
    config = ConfigDict()
    config.experiment = "evaluate"
    config.seed = 0
    config.model = "runs/grpo/params"
    config.task = "jsonl:data/aime_2025.jsonl"
    config.num_runs = 50
    config.batch_size = 30  # one run at a time: whatever is stored is a whole number of runs
    config.dtype = "bfloat16"
    config.thinking = True
    config.verifier_deadline_s = 5.0  # not in the paper

    config.mesh = common.mesh()

    config.sampler = ConfigDict()
    config.sampler.prompt_length = 1_024
    config.sampler.max_response = 65_536
    config.sampler.rows_per_wave = 8  # not in the paper

    config.decoding = ConfigDict()
    config.decoding.temperature = 0.8
    config.decoding.top_p = 0.95
    config.decoding.top_k = 50
    config.decoding.max_tokens = 65_536
    return config


def tiny() -> ConfigDict:
    """The same path in small."""
    config = paper()
    config.model = "runs/quickstart/grpo/params"
    config.task = "chains:test?num=100&min_ops=6&max_ops=7"
    config.num_runs = 3
    config.batch_size = 100
    config.dtype = "float32"
    config.sampler.prompt_length = 24
    config.sampler.max_response = 32
    config.sampler.rows_per_wave = 128
    config.decoding.max_tokens = 32
    return config
