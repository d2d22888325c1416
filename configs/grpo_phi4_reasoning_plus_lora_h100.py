"""Phi-4-reasoning-plus on one 80 GB card: GRPO of adapters on a frozen, 4-bit Phi-4-reasoning (QLoRA).

The reward and the objective of section 4 of the paper (arXiv 2504.21318), with what a single card has room and time
for: 8 problems a step instead of 64, rows of 16,384 tokens instead of 32,768 (the lengths of the reward in the paper's
proportions of L_max), adapters of rank 16 on all matrices of the layers instead of all parameters. These and the
learning rate are not in the paper.

    base             matrices in nf4, 13.6e9 * 4.5 bits, embedding and head in bfloat16: 9.1 GiB; without the adapters
                     it is the reference policy
    adapters         rank 16: 55.7M parameters, 0.8 GiB with moments and gradient
    rollout          a copy of the weights for decoding, in bfloat16, 27.5 GiB, freed before training; and the cache,
                     147,456 tokens * 200 KiB = 28.1 GiB, for 32 responses of unequal length
    training         a row at a time: 40 inputs of blocks, 160 MiB each, 6.3 GiB; and one block
    in all           68.1 of 72.8 GiB in the rollout, 21.3 in the update, compiled, not run:
                     phi4r plan --config=configs/grpo_phi4_reasoning_plus_lora_h100.py --topology=h100:1
    time             a decode step of 32 responses with 3.7k tokens each moves 116 GB: at least 34 ms. Responses of
                     5,400 tokens in the mean take 6 minutes a step or more, the training on full rows 2.5

Start from the released SFT model, or from one of your own:

    phi4r convert hf-to-orbax microsoft/Phi-4-reasoning runs/phi-4-reasoning
    python -m phi4r.main --config=configs/grpo_phi4_reasoning_plus_lora_h100.py --workdir=runs/grpo_lora

WORKDIR/adapter is the result in the format of PEFT; params and hf are the model with the adapters merged.

The argument `tiny` takes the same path in a minute on a laptop, with the model of the quickstart:

    make quickstart
    python -m phi4r.main --config=configs/grpo_phi4_reasoning_plus_lora_h100.py:tiny --workdir=runs/grpo_lora_tiny
"""

from ml_collections import ConfigDict

from configs import common


def get_config(size: str = "h100") -> ConfigDict:
    """Returns the config; `size` is "h100" or "tiny"."""
    return common.of_size(size, {"h100": h100, "tiny": tiny})


def h100() -> ConfigDict:
    """The 14B on one card of 80 GB."""
    config = ConfigDict()
    config.experiment = "grpo"
    config.seed = 0
    config.init_from = "runs/phi-4-reasoning"
    config.task = "jsonl:data/problems.jsonl"  # {"prompt": ..., "answer": ...} a line
    config.num_steps = 90  # section 4
    config.problems_per_step = 8
    config.max_refills = 0  # not in the paper
    config.num_microbatches = 64  # one row at a time
    config.row_length = 0  # that of the longest response with its prompt
    config.logprob_chunk = 2048
    config.verifier_deadline_s = 5.0
    config.max_failed_share = 0.5  # not in the paper
    config.log_every = 1
    config.save_every = 5
    config.keep = 3
    config.save_rollouts_every = 1
    config.save_logprob_gaps = False  # True takes a pass over each rollout, for `phi4r view`
    config.export_dtype = "bfloat16"

    config.model = common.model()
    config.model.param_dtype = "bfloat16"  # of what is not quantized; adapters are float32
    config.mesh = common.mesh()
    config.guards = common.guards()
    config.guards.spike_factor = 0.0  # its loss lies around zero, where jumps mean nothing
    config.lora = common.lora()
    config.lora.quantize_base = "nf4"

    config.sampler = ConfigDict()
    config.sampler.prompt_length = 1024
    config.sampler.max_response = 15_360
    # Four groups at a time, with pages for 4,608 tokens of each response: running ones have about 3.7k in the mean if
    # lengths are in the paper's proportion, and where more are needed the youngest wait.
    config.sampler.num_slots = 32
    config.sampler.cache_tokens = 32 * 4608

    # The paper's proportions of L_max: 25,600 and 3,702 of 31,744.
    config.reward = ConfigDict()
    config.reward.max_length = 15_360
    config.reward.positive_control_length = 12_387
    config.reward.negative_control_length = 1_791
    config.reward.parts = (
        {"name": "accuracy", "weight": 8 / 13},
        {"name": "repetition", "weight": 1 / 13},
    )

    config.grpo = common.grpo()

    config.optimizer = common.optimizer()
    config.optimizer.learning_rate = 1e-6  # twenty times that of all parameters, for an eighth of the problems
    config.optimizer.warmup_steps = 10  # section 4
    config.optimizer.schedule = "constant"
    config.optimizer.weight_decay = 0.0  # the paper says Adam
    return config


def tiny() -> ConfigDict:
    """The same path in small: the quickstart's SFT model on chains a little longer than it was taught."""
    config = h100()
    config.init_from = "runs/quickstart/sft/params"
    config.task = "chains:train?num=2000&min_ops=6&max_ops=7"
    config.num_steps = 4
    config.problems_per_step = 16
    config.num_microbatches = 2
    config.logprob_chunk = 64
    config.save_every = 2

    config.model = common.tiny_model()

    config.sampler.prompt_length = 24
    config.sampler.max_response = 32
    config.sampler.num_slots = 128
    del config.sampler.cache_tokens  # a place for all
    config.sampler.page_size = 32  # a prompt fills most of one

    config.reward.max_length = 32
    config.reward.positive_control_length = 26
    config.reward.negative_control_length = 4

    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 2
    return config
