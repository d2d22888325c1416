"""Phi-4-reasoning: supervised fine-tuning of phi-4 (section 3 of the paper, arXiv 2504.21318).

1.4 million prompts with thoughts and solutions of a stronger teacher, 8.3 billion unique tokens, packed to rows of 32k.

    tokens a step    32 rows * 32,768 = 1,048,576; 16,000 steps are 16.8 billion tokens, two passes
    FLOPs a step     84.9 GFLOP (parameters) + 40.3 GFLOP (causal attention) a token: 1.31e17
    state            14.66e9 * (4 parameter + 8 moments) bytes = 164 GiB; 5.1 GiB on each of 32 devices
    memory           32.2 of 72.8 GiB on each of 32 H100, compiled, not run; smaller slices are in benchmarks/PLANS.md
    time             the paper: 32 H100 for 2.5 days = 13.5 s a step, an MFU of 31%
    number           AIME 25 63.1 (sd 6.3 over 50 runs), GPQA-D 67.1 (table 1); AIME 24 and GPQA-D rise throughout and
                     the mean length falls slightly (figure 4)

First make the base: `<think>` tokens, rope theta 250k -> 500k, context 16k -> 32k. Then train, on every host:

    phi4r convert hf-to-orbax microsoft/phi-4 runs/phi-4-base --reasoning
    python -m phi4r.main --config=configs/sft_phi4_reasoning.py --workdir=runs/sft

Figure 4 while it trains (`gpqa_diamond` needs a file, see `phi4r evaluate --tasks`); decoding needs room for a second
copy of the weights and for a cache, which `phi4r plan` does not count:

    --config.probe.task="aime_2024 gpqa_diamond:data/gpqa_diamond.csv"

The argument `tiny` takes the same path in a minute on a laptop, with the model and the traces of the quickstart:

    make quickstart
    CONFIG=configs/sft_phi4_reasoning.py:tiny WORKDIR=runs/sft_tiny launch/laptop.sh
"""

from ml_collections import ConfigDict

from configs import common


def get_config(size: str = "paper") -> ConfigDict:
    """Returns the config; `size` is "paper" or "tiny"."""
    return common.of_size(size, {"paper": paper, "tiny": tiny})


def paper() -> ConfigDict:
    """The published run."""
    config = ConfigDict()
    config.experiment = "sft"
    config.seed = 0
    config.init_from = "runs/phi-4-base"
    config.num_steps = 16_000  # "about 16k"
    config.num_microbatches = 1
    config.logprob_chunk = 2048  # positions a row with logits at a time: 2048 * 100,352 * 4 bytes = 0.77 GiB
    config.log_every = 10
    config.save_every = 500
    config.keep = 3
    config.export_dtype = "bfloat16"

    config.probe = common.probe("", every=1000, num_runs=4, max_response=31_744)

    config.model = common.model()
    config.mesh = common.mesh()
    config.guards = common.guards()

    config.data = ConfigDict()
    config.data.sources = ({"spec": "jsonl:data/traces.jsonl", "weight": 1.0},)  # one weight for each cluster
    config.data.global_batch = 32
    config.data.row_length = 32_768
    config.data.packing = "best_fit"  # not in the paper
    config.data.overlong = "drop"  # not in the paper

    config.optimizer = common.optimizer()
    config.optimizer.learning_rate = 1e-5
    config.optimizer.warmup_steps = 450
    config.optimizer.weight_decay = 1e-4
    return config


def tiny() -> ConfigDict:
    """The same path in small."""
    config = paper()
    config.init_from = "runs/quickstart/base"
    config.num_steps = 60
    config.num_microbatches = 2
    config.logprob_chunk = 64
    config.log_every = 5
    config.save_every = 20

    config.export_dtype = "float32"

    config.model = common.tiny_model()

    config.data.sources = ({"spec": "tfds:quickstart_sft/train@runs/quickstart/problems/data", "weight": 1.0},)
    config.data.global_batch = 16
    config.data.row_length = 128

    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 10
    return config
