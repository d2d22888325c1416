"""The whole recipe in small, on two CPU cores in a few minutes: `make quickstart`.

The task is arithmetic chains modulo 10 (`phi4r.evals.puzzles.chains`): a start digit and k operations. The thought
writes each operation and the value after it, so a right answer needs k right steps, and a guess scores 10%.

    base     random weights in the shape of phi-4 (grouped queries, gated MLP, untied head): 0.4M parameters
    SFT      k = 2..5, with the solver's thoughts; positions stretched up to twofold, so longer chains are in range
    GRPO     k = 6..7, without thoughts: 64 problems x 8 responses a step, the paper's reward and objective
    test     k = 6..7, problems of neither; greedy, and several runs at temperature 0.8

What SFT and GRPO learn from is made by curation (`phi4r.quickstart.problems`), with a data card in problems/data.

Everything that differs from the paper's two configs differs because the model is 36,000 times smaller: learning rates
grow as models shrink, and lengths are scaled to those of the task.

    python -m phi4r.main --config=configs/quickstart.py --workdir=runs/quickstart
    python -m phi4r.main --config=configs/quickstart.py:gpu --workdir=runs/quickstart_gpu
"""

from ml_collections import ConfigDict

from configs import common

ABOUT = (
    "Arithmetic chains modulo 10: a start digit and k operations that are all bijections, so a guess scores 10%. SFT "
    "taught the solver's thoughts for short chains; GRPO saw longer ones, without thoughts, and only the reward. The "
    "models are tested on chains as long as GRPO's that none of them has seen."
)
LENGTH_NOTE = (
    "The length term of the reward hardly acts on this task: a chain of k operations has a thought of one length, so "
    "right answers differ little in length, and all stay under the length from which the reward falls. Wrong answers "
    "that stop early are the exception. `make reproduce` runs the same GRPO with a plain right-or-wrong reward beside "
    "it; the figures of both are in benchmarks/RESULTS.md."
)


def get_config(size: str = "cpu") -> ConfigDict:
    """Returns the config; `size` is "cpu" or "gpu" (a larger model, longer chains)."""
    return common.of_size(size, {"cpu": cpu, "gpu": gpu})


def cpu() -> ConfigDict:
    """Two CPU cores."""
    config = ConfigDict()
    config.experiment = "quickstart"
    config.seed = 0
    config.controls = False  # `make reproduce` sets it: the same with a plain reward, and SFT for equal time

    config.base = common.small_base()

    config.problems = ConfigDict()
    config.problems.sft = "chains:train?num=40000&min_ops=2&max_ops=5"
    config.problems.rl = "chains:train?num=4000&min_ops=6&max_ops=7"
    config.problems.dev = "chains:dev?num=200&min_ops=6&max_ops=7"
    config.problems.test = "chains:test?num=500&min_ops=6&max_ops=7"
    config.about = ABOUT
    config.length_note = LENGTH_NOTE

    config.sft = sft()
    config.grpo = grpo()

    config.evaluation = ConfigDict()
    config.evaluation.model = ""  # each model in turn
    config.evaluation.task = "jsonl:{workdir}/problems/test.jsonl"
    config.evaluation.num_runs = 4
    config.evaluation.batch_size = 500
    config.evaluation.sampler = {"prompt_length": 18, "max_response": 28, "page_size": 32}
    config.evaluation.decoding = {"temperature": 0.8, "top_p": 1.0, "top_k": 0, "max_tokens": 28}
    config.evaluation.dtype = "float32"
    return config


def sft() -> ConfigDict:
    """Learning to think, on chains of two to five operations."""
    config = ConfigDict()
    config.init_from = "{workdir}/base"
    config.num_steps = 800
    config.num_microbatches = 1
    config.logprob_chunk = 512
    config.log_every = 10
    config.save_every = 200
    config.keep = 1
    config.model = common.tiny_model()
    config.mesh = common.mesh()
    config.data = ConfigDict()
    config.data.sources = ({"spec": "tfds:quickstart_sft/train@{workdir}/problems/data", "weight": 1.0},)
    config.data.global_batch = 16
    config.data.row_length = 160
    config.data.position_stretch = 2.0
    config.optimizer = common.optimizer()
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 20
    config.optimizer.b2 = 0.98
    config.optimizer.weight_decay = 1e-4
    config.optimizer.end_fraction = 0.01
    config.probe = probe(every=150)
    return config


def grpo() -> ConfigDict:
    """Learning from the reward alone, on chains of six and seven operations."""
    config = ConfigDict()
    config.init_from = "{workdir}/sft/params"
    config.task = "tfds:quickstart_rl/train@{workdir}/problems/data"
    config.num_steps = 30
    config.problems_per_step = 64
    config.num_microbatches = 1
    config.logprob_chunk = 512
    config.log_every = 1
    config.save_every = 15
    config.keep = 1
    config.save_rollouts_every = 10
    config.model = common.tiny_model()
    config.mesh = common.mesh()
    # All responses of a step at a time; pages that a prompt just fits take half the time of those for long texts.
    config.sampler = {"prompt_length": 18, "max_response": 28, "page_size": 32}

    config.reward = ConfigDict()
    config.reward.max_length = 28
    config.reward.positive_control_length = 23  # the paper's share of L_max, 25,600 of 31,744
    # The paper's share of L_max would be 3 tokens, which no answer stays under; at 20 a wrong answer that stops early
    # loses more than one that went through all the operations.
    config.reward.negative_control_length = 20

    config.grpo = ConfigDict()
    config.grpo.group_size = 8
    config.grpo.kl_beta = 0.001
    config.grpo.entropy_gamma = 0.001
    config.grpo.clip_low = 0.2
    config.grpo.clip_high = 0.2
    config.grpo.temperature = 1.0
    config.grpo.group_std = "population"

    config.optimizer = common.optimizer()
    config.optimizer.learning_rate = 1e-4
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 5
    config.optimizer.weight_decay = 0.0
    config.probe = probe(every=10)
    return config


def probe(*, every: int) -> ConfigDict:
    """The development set, answered greedily."""
    return ConfigDict(
        {
            "task": "jsonl:{workdir}/problems/dev.jsonl",
            "every": every,
            "sampler": {"prompt_length": 18, "max_response": 28, "page_size": 32},
        }
    )


def gpu() -> ConfigDict:
    """One GPU: a model of 10M parameters, chains of up to seven operations for SFT and ten for GRPO."""
    config = cpu()
    config.base.num_layers = 8
    config.base.embed_dim = 320
    config.base.num_heads = 10
    config.base.num_kv_heads = 2
    config.base.mlp_dim = 1024
    config.base.init_std = 0.056
    config.problems.sft = "chains:train?num=200000&min_ops=2&max_ops=7"
    config.problems.rl = "chains:train?num=4000&min_ops=8&max_ops=10"
    config.problems.dev = "chains:dev?num=200&min_ops=8&max_ops=10"
    config.problems.test = "chains:test?num=500&min_ops=8&max_ops=10"
    config.sft.num_steps = 2_000
    config.sft.data.global_batch = 64
    config.sft.optimizer.learning_rate = 1e-3
    config.grpo.num_steps = 100
    config.grpo.problems_per_step = 128
    config.grpo.optimizer.learning_rate = 3e-5
    for part in (config.evaluation, config.sft.probe, config.grpo.probe, config.grpo):
        part.sampler = {"prompt_length": 24, "max_response": 48, "page_size": 32}
    config.evaluation.decoding.max_tokens = 48
    config.grpo.reward.max_length = 48
    config.grpo.reward.positive_control_length = 39
    config.grpo.reward.negative_control_length = 6
    return config
