"""Sampling from the model: continuous batching over a paged cache."""

from phi4r.sampling.batching import SamplerStats
from phi4r.sampling.logits import SamplingParams
from phi4r.sampling.sampler import Sampler, SamplerSettings
from phi4r.sampling.samples import FINISH_LENGTH, FINISH_STOP, Samples

__all__ = [
    "FINISH_LENGTH",
    "FINISH_STOP",
    "Sampler",
    "SamplerSettings",
    "SamplerStats",
    "Samples",
    "SamplingParams",
]
