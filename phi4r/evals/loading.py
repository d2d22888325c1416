"""From a loaded model to a generator on our own sampler, and how much memory its cache may take."""

import contextlib
import logging
import os

import jax
from jax.sharding import Mesh

from phi4r.checkpoint.release import LoadedModel
from phi4r.evals.decoding import DecodingSettings
from phi4r.model.config import ModelConfig
from phi4r.model.rope_scaling import RopeSettings
from phi4r.sampling import Sampler, SamplerSettings
from phi4r.sampling.generator import SamplerGenerator
from phi4r.text.chat import Chat

CACHE_SHARE, CACHE_SHARE_HOST = 0.6, 0.25  # of what a device has left beside the weights; of a host's memory

_log = logging.getLogger(__name__)


def make_generator(
    loaded: LoadedModel,
    chat: Chat,
    *,
    sampler: SamplerSettings,
    decoding: DecodingSettings,
    rope: RopeSettings,
    mesh: Mesh | None = None,
) -> SamplerGenerator:
    """Returns a generator with weights of its own: the loaded ones may go.

    Raises:
      UserError: for settings that do not fit the model or its tokenizer.
    """
    tokenizer = chat.tokenizer
    end_think_id = decoding.end_think_id(tokenizer)
    longest = sampler.prompt_length + sampler.max_response
    config = loaded.config.with_rope(rope).for_length(longest)
    if longest > config.max_positions:
        _log.warning(
            "Rows may reach %d tokens; the model was made for %d positions. A rope scaling takes it further.",
            longest,
            config.max_positions,
        )
    made = Sampler(
        config,
        sampler,
        eos_ids=[tokenizer.eos_id],
        pad_id=tokenizer.pad_id,
        end_think_id=end_think_id,
        mesh=mesh,
    )
    with jax.set_mesh(mesh) if mesh is not None else contextlib.nullcontext():
        unrolled = jax.block_until_ready(made.unroll(loaded.params))
    return SamplerGenerator(made, unrolled, chat, decoding.params(), decoding.stop)


def cache_bytes(config: ModelConfig, itemsize: int) -> float:
    """Returns how many bytes keys and values may take on the first device, before a model is loaded onto it.

    Args:
      config: of the model.
      itemsize: bytes of a weight.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return CACHE_SHARE * (stats["bytes_limit"] - stats["bytes_in_use"] - config.num_params * itemsize)
    return CACHE_SHARE_HOST * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
