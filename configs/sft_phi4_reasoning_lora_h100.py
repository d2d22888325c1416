"""Phi-4-reasoning on one 80 GB card: supervised fine-tuning of adapters (LoRA) on a frozen phi-4.

The data and the rows of section 3 of the paper (arXiv 2504.21318), but 8 rows a step instead of 32, and adapters of
rank 64 on all matrices of the layers instead of all parameters. None of what follows is in the paper.

    adapters         rank 64: 40 * 64 * (5 D + 7,680 + 3 F) = 222.8M parameters, 1.5% of the model (D = 5,120,
                     F = 17,920, 7,680 rows of q, k and v; q, k and v share one A, gate and up share one)
    base             14.66e9 parameters in bfloat16, 27.3 GiB, once: not trained, not saved
    state            222.8e6 * (4 parameter + 8 moments + 4 gradient) bytes = 3.3 GiB
    activations      a row of 32,768: 40 inputs of blocks, 320 MiB each, 12.5 GiB; and one block at a time
    in all           53.6 of 72.8 GiB, compiled, not run:
                     phi4r plan --config=configs/sft_phi4_reasoning_lora_h100.py --topology=h100:1
    tokens a step    8 rows * 32,768 = 262,144, one row at a time
    FLOPs a step     57.9 GFLOP (4 a frozen parameter, 6 an adapter) + 40.3 GFLOP (attention) a token: 2.57e16; with the
                     forward pass computed twice 4.0e16, 40 s at the peak of the card, 80 s at half of it
    time             1,000 steps, 262 million tokens: about a day at half the peak

First make the base: `<think>` tokens, rope theta 250k -> 500k, context 16k -> 32k. Then train:

    phi4r convert hf-to-orbax microsoft/phi-4 runs/phi-4-base --reasoning
    python -m phi4r.main --config=configs/sft_phi4_reasoning_lora_h100.py --workdir=runs/sft_lora

WORKDIR/adapter is the result in the format of PEFT; params and hf are the model with the adapters merged.
`--config.lora.quantize_base=nf4` (QLoRA) holds the base in 9.1 GiB instead of 27.3.

The argument `tiny` takes the same path in a minute on a laptop, with the model and the traces of the quickstart:

    make quickstart
    python -m phi4r.main --config=configs/sft_phi4_reasoning_lora_h100.py:tiny --workdir=runs/sft_lora_tiny
"""

from ml_collections import ConfigDict

from configs import common


def get_config(size: str = "h100") -> ConfigDict:
    """Returns the config; `size` is "h100" or "tiny"."""
    return common.of_size(size, {"h100": h100, "tiny": tiny})


def h100() -> ConfigDict:
    """The 14B on one card of 80 GB."""
    config = ConfigDict()
    config.experiment = "sft"
    config.seed = 0
    config.init_from = "runs/phi-4-base"
    config.num_steps = 1_000
    config.num_microbatches = 8  # one row at a time
    config.logprob_chunk = 2048
    config.log_every = 1
    config.save_every = 50
    config.keep = 3
    config.export_dtype = "bfloat16"

    config.model = common.model()
    config.model.param_dtype = "bfloat16"  # of the base; adapters are float32
    config.mesh = common.mesh()
    config.guards = common.guards()
    config.lora = common.lora()
    config.lora.rank = 64
    config.lora.alpha = 128.0

    config.data = ConfigDict()
    config.data.sources = ({"spec": "jsonl:data/traces.jsonl", "weight": 1.0},)
    config.data.global_batch = 8
    config.data.row_length = 32_768  # section 3
    config.data.packing = "best_fit"
    config.data.overlong = "drop"

    config.optimizer = common.optimizer()
    config.optimizer.learning_rate = 1e-4  # ten times that of all parameters
    config.optimizer.warmup_steps = 30
    config.optimizer.weight_decay = 0.0
    return config


def tiny() -> ConfigDict:
    """The same path in small."""
    config = h100()
    config.init_from = "runs/quickstart/base"
    config.num_steps = 60
    config.num_microbatches = 2
    config.logprob_chunk = 64
    config.log_every = 5
    config.save_every = 20
    config.export_dtype = "float32"

    config.model = common.tiny_model()
    config.lora.rank = 16
    config.lora.alpha = 32.0

    config.data.sources = ({"spec": "tfds:quickstart_sft/train@runs/quickstart/problems/data", "weight": 1.0},)
    config.data.global_batch = 16
    config.data.row_length = 128

    config.optimizer.learning_rate = 1e-2
    config.optimizer.warmup_steps = 10
    return config
