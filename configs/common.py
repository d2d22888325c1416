"""Sections that several configs share; a config copies one and changes what its page of the paper says."""

from collections.abc import Callable

from ml_collections import ConfigDict


def of_size(size: str, sizes: dict[str, Callable[[], ConfigDict]]) -> ConfigDict:
    """Returns the config of one size.

    Raises:
      ValueError: for a size that is not there.
    """
    if size not in sizes:
        raise ValueError(f"{size!r} is not a size of this config; take {' or '.join(sizes)}.")
    return sizes[size]()


def model() -> ConfigDict:
    """Numerics of training: bfloat16 activations on float32 parameters, blocks recomputed in the backward pass."""
    return ConfigDict({"dtype": "bfloat16", "param_dtype": "float32", "remat": "full", "rope": rope()})


def tiny_model() -> ConfigDict:
    """Numerics on a CPU, where float32 is faster than bfloat16 and memory is no concern."""
    return ConfigDict({"dtype": "float32", "param_dtype": "float32", "remat": "none", "rope": rope()})


def small_base() -> ConfigDict:
    """A model in the shape of phi-4 with 0.4M parameters, but for the vocabulary, which its tokenizer gives."""
    return ConfigDict(
        {
            "num_layers": 3,
            "embed_dim": 96,
            "num_heads": 3,
            "num_kv_heads": 1,
            "head_dim": 32,
            "mlp_dim": 256,
            "rope_theta": 250_000.0,  # phi-4's, doubled by the conversion
            "max_positions": 16_384,
            "init_std": 0.1,  # 1 / sqrt(embed_dim); phi-4 has 0.02 at a width of 5120
        }
    )


def rope() -> ConfigDict:
    """The positions that the model was made for; scaling "yarn" and factor 2.0 take 32k to 64k."""
    return ConfigDict({"scaling": "stored", "factor": 1.0})  # not in the paper


def mesh() -> ConfigDict:
    """All devices share one copy of the parameters (fully sharded data parallelism)."""
    return ConfigDict({"data": 1, "fsdp": -1, "context": 1, "tensor": 1})


def optimizer() -> ConfigDict:
    """AdamW; what a config must set for itself is the learning rate, the warm-up and the weight decay."""
    return ConfigDict(
        {
            "name": "adamw",
            "b1": 0.9,  # not in the paper
            "b2": 0.95,  # not in the paper
            "eps": 1e-8,  # not in the paper
            "clip_norm": 1.0,  # not in the paper
            "schedule": "cosine",  # not in the paper
            "end_fraction": 0.1,  # not in the paper
            "moment_dtype": "float32",  # not in the paper
        }
    )


def lora() -> ConfigDict:
    """Adapters on every matrix of the layers, in the conventions of PEFT; not in the paper."""
    return ConfigDict(
        {"rank": 16, "alpha": 32.0, "targets": ("qkv", "o", "gate_up", "down"), "quantize_base": "none"},
    )


def guards() -> ConfigDict:
    """When a run stops by itself, and when it warns; not in the paper."""
    return ConfigDict({"max_nonfinite_steps": 3, "spike_factor": 10.0})


def probe(task: str, *, every: int, num_runs: int, max_response: int) -> ConfigDict:
    """Tasks that are asked in the middle of training (Figure 4); how often and how is not in the paper.

    Args:
      task: spec, or several with blanks between them; empty for none.
      every: steps between two looks.
      num_runs: answers to each problem.
      max_response: longest answer in tokens.
    """
    return ConfigDict(
        {
            "task": task,
            "every": every,
            "num_problems": 0,  # all; fewer for a large set
            "num_runs": num_runs,
            "temperature": 0.8,
            "sampler": {
                "prompt_length": 1024,
                "max_response": max_response,
                "num_slots": 128,
                "cache_tokens": 128 * 14_336,
                "tensor": 2,
            },
        }
    )


# How the models of the report's comparison are decoded (section 5), and what a server of theirs takes. "thinking" says
# whether answers show the thought; without it nothing can tell that a thought was cut off.
EVAL_FAMILIES = {
    "phi4_reasoning": {"decoding": {"temperature": 0.8, "top_p": 0.95, "top_k": 50}},
    # DeepSeek-R1 and its distillations; top_p is the model card's, not in the paper.
    "deepseek": {"decoding": {"temperature": 0.6, "top_p": 0.95, "top_k": 0}},
    # Any other; what it takes a temperature of 1.0 for is its own.
    "others": {"decoding": {"temperature": 1.0, "top_p": 1.0, "top_k": 0}, "thinking": False},
    # Any other with whatever its server does by itself; the values here stand for nothing and are not sent.
    "server_default": {
        "decoding": {"temperature": 1.0, "top_p": 1.0, "top_k": 0},
        "thinking": False,
        "endpoint": {"omit": ("temperature", "top_p")},
    },
    # o1, o3-mini: no temperature, another name for the limit, and thoughts that nobody sees.
    "o_series": {
        "decoding": {"temperature": 1.0, "top_p": 1.0, "top_k": 0},
        "thinking": False,
        "endpoint": {"omit": ("temperature", "top_p"), "limit_field": "max_completion_tokens"},
    },
}


def endpoint() -> ConfigDict:
    """A server with the chat completions protocol; nothing of how it is asked is in the paper.

    What stands here is a server on this machine: base_url and model are for the command to say.
    """
    return ConfigDict(
        {
            "base_url": "http://localhost:8000/v1",
            "model": "phi-4-reasoning",
            "api_key_env": "OPENAI_API_KEY",  # the variable that holds the key
            "concurrency": 64,
            "requests_per_minute": 0,  # no limit
            "max_retries": 8,
            "timeout_s": 3600.0,  # a thought of 65,536 tokens at 20 a second
            "limit_field": "max_tokens",
            "extra": {},
            "omit": (),
        }
    )


def judge() -> ConfigDict:
    """A model on a server that looks at stored responses, greedily."""
    decoding = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "max_tokens": 4096}  # not in the paper
    return ConfigDict({"endpoint": endpoint(), "decoding": decoding})


# What the published objectives change of section 4's; none but the first has a penalty or a bonus.
_PLAIN = {"kl_beta": 0.0, "entropy_gamma": 0.0}
GRPO_PRESETS = {
    "grpo_paper": {},
    # arXiv 2503.14476; its soft penalty is the part "overlong" of the reward, its dynamic sampling `max_refills`.
    "dapo": {**_PLAIN, "clip_high": 0.28, "aggregation": "token_mean"},
    # arXiv 2503.20783: nothing is divided by what depends on the responses.
    "dr_grpo": {**_PLAIN, "group_std": "none", "aggregation": "constant_length"},
    # arXiv 2507.18071, where a rollout is trained on in 4 updates.
    "gspo": {**_PLAIN, "ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
    # arXiv 2506.13585, which has no bound below and does not publish the one above.
    "cispo": {**_PLAIN, "surrogate": "cispo", "clip_low": 1.0, "clip_high": 4.0, "aggregation": "token_mean"},
    # arXiv 2402.14740: the log-probability of a response is the sum of its tokens'.
    "rloo": {**_PLAIN, "baseline": "leave_one_out", "group_std": "none", "aggregation": "constant_length"},
}


def grpo(preset: str = "grpo_paper", *, max_response: int = 0) -> ConfigDict:
    """The objective of section 4, or another published one.

    Args:
      preset: which, of `GRPO_PRESETS`.
      max_response: longest response in tokens; needed where sums are divided by a constant.
    """
    paper = {
        "group_size": 8,
        "surrogate": "clip",
        "ratio": "token",
        "clip_low": 0.2,  # not in the paper
        "clip_high": 0.2,  # not in the paper
        "dual_clip": 0.0,  # none
        "kl_beta": 0.001,
        "kl_estimator": "k3",  # not in the paper
        "entropy_gamma": 0.001,
        "baseline": "mean",
        "group_std": "population",  # not in the paper
        "aggregation": "sequence_mean",  # as the objective is printed
        "length_constant": 0,  # none
        "temperature": 1.0,  # not in the paper
        "updates_per_rollout": 1,  # not in the paper
        "old_logprobs": "sampler",  # not in the paper
        "importance_cap": 0.0,  # none
        "sequence_mask": 0.0,  # none
        "overlong": "train",
        "max_logprob_gap": 0.1,  # not in the paper
    }
    config = ConfigDict({**paper, **GRPO_PRESETS[preset]})
    if config.aggregation == "constant_length":
        config.length_constant = max_response
    return config
