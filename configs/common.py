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
    return ConfigDict({"dtype": "bfloat16", "param_dtype": "float32", "remat": "full"})


def tiny_model() -> ConfigDict:
    """Numerics on a CPU, where float32 is faster than bfloat16 and memory is no concern."""
    return ConfigDict({"dtype": "float32", "param_dtype": "float32", "remat": "none"})


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


def grpo() -> ConfigDict:
    """The objective of section 4."""
    return ConfigDict(
        {
            "group_size": 8,
            "kl_beta": 0.001,
            "entropy_gamma": 0.001,
            "clip_epsilon": 0.2,  # not in the paper
            "temperature": 1.0,  # not in the paper
            "kl_estimator": "k3",  # not in the paper
            "group_std": "population",  # not in the paper
            "aggregation": "sequence_mean",  # as the objective is printed
        }
    )
