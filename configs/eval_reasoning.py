"""Evaluation of a reasoning model by the protocol of the paper (section 5 and table 1, arXiv 2504.21318).

Every problem is asked several times at temperature 0.8 (the generation defaults of the release: top_p 0.95, top_k 50),
and a score is a mean over runs with its standard deviation, because one run of 30 problems says little: on AIME 25 the
runs of one model differ by 5 points of standard deviation.

    runs             50 for AIME 25, 5 for the other reasoning sets
    responses        up to 65,536 tokens, thought included; what is cut off is wrong, and its share is reported
    longest row      1,024 prompt + 65,536 response = 66,560 tokens; the model was trained on 32,768 positions, and goes
                     on past them with the angles it has (config.rope: linear, ntk or yarn with a factor scale them)
    cache            200 KiB a token in bfloat16: 12.7 GiB for each full row, 250 GiB for 10,240 tokens of each of 128
    time             AIME 25, 50 runs: 1,500 responses of about 11k tokens (14.8k after GRPO), 17 million tokens
    number           AIME 25 63.1 (sd 6.3) for Phi-4-reasoning, 78.0 (sd 4.6) for Phi-4-reasoning-plus

The problems are a file with one {"prompt": ..., "answer": ...} a line; answers are compared as mathematics.

    python -m phi4r.main --config=configs/eval_reasoning.py --workdir=runs/aime25 --config.model=runs/grpo/params

    python -m phi4r.main --config=configs/eval_reasoning.py --workdir=runs/omni --config.model=runs/grpo/params \
        --config.task=jsonl:data/omni_math.jsonl --config.num_runs=5

The argument `tiny` takes the same path in a minute on a laptop, with the SFT model of the quickstart:

    make quickstart
    python -m phi4r.main --config=configs/eval_reasoning.py:tiny --workdir=runs/eval_tiny
"""

from ml_collections import ConfigDict

from configs import common


def get_config(size: str = "paper") -> ConfigDict:
    """Returns the config; `size` is "paper" or "tiny"."""
    return common.of_size(size, {"paper": paper, "tiny": tiny})


def paper() -> ConfigDict:
    """AIME 25 with 50 runs."""
    config = ConfigDict()
    config.experiment = "evaluate"
    config.seed = 0
    config.model = "runs/grpo/params"
    config.task = "jsonl:data/aime_2025.jsonl"
    config.num_runs = 50
    config.batch_size = 500  # a third of AIME 25
    config.dtype = "bfloat16"
    config.deadline_s = 5.0  # not in the paper
    config.rope = common.rope()
    config.mesh = common.mesh()

    config.sampler = ConfigDict()
    config.sampler.prompt_length = 1024
    config.sampler.max_response = 65_536
    # Not in the paper. Responses that are running have 6k to 8k tokens in the mean; where pages run out, the youngest
    # wait. On 8 GPUs of 80 GB: 27.3 GiB of weights for decoding, 3.4 of parameters and 31.3 of pages on each.
    config.sampler.num_slots = 128
    config.sampler.cache_tokens = 128 * 10_240

    config.decoding = ConfigDict()
    config.decoding.temperature = 0.8
    config.decoding.top_p = 0.95
    config.decoding.top_k = 50
    config.decoding.max_tokens = 65_536
    return config


def tiny() -> ConfigDict:
    """The same path in small: arithmetic chains a little longer than the SFT model was taught."""
    config = paper()
    config.model = "runs/quickstart/sft/params"
    config.task = "chains:test?num=100&min_ops=6&max_ops=7"
    config.num_runs = 3
    config.batch_size = 100
    config.dtype = "float32"

    config.sampler.prompt_length = 24
    config.sampler.max_response = 32
    config.sampler.num_slots = 100
    del config.sampler.cache_tokens  # a place for all
    config.sampler.page_size = 32  # a prompt fills most of one

    config.decoding.max_tokens = 32
    return config
