"""The compiled programs of samplers; those of one model and shape share them."""

import functools
from collections.abc import Callable

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from phi4r.model.config import ModelConfig
from phi4r.model.int8 import DecodeCache, DecodeWeights
from phi4r.model.kv_cache import PAGE_AXES, Pages, copy_pages, empty_pages
from phi4r.model.layouts import unroll_params, unrolled_shardings
from phi4r.model.transformer import Transformer
from phi4r.sampling.programs import Drawn, Slots, decode_burst, prefill_chunk
from phi4r.sharding import batch_shards, fitted_spec
from phi4r.typing import Params


class SamplerPrograms:
    """The compiled programs of a sampler; nothing is compiled before the first call of each.

    Attributes:
      longest: tokens that a sequence may come to have.
      num_steps: decode steps of a burst.
      most_new: tokens that it may add to a sequence.
      empty: (num_pages, page_size) -> Pages, the pool of all parts of the batch.
      prefill: (unrolled, pages, table, starts, tokens, counts) -> pages; takes over the buffers of `pages`.
      copy: (pages, sources, targets) -> pages; so does this one.
      burst: (unrolled, pages, slots, sampling) -> (pages, Drawn on every host); and this one.
      drafting_burst: the same with guesses, for slots that have a history.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        longest: int,
        num_steps: int,
        draft_tokens: int,
        eos_ids: tuple[int, ...],
        end_think_id: int | None,
        pad_id: int,
        cache: DecodeCache,
        mesh: Mesh | None,
    ):
        self.longest, self.num_steps, self.most_new = longest, num_steps, num_steps + draft_tokens
        self.empty = _empty_fn(config, cache, mesh)
        self.prefill = _prefill_fn(config, longest, mesh)
        self.copy = _copy_fn(config, mesh)
        self.burst, self.drafting_burst = (
            _burst_fn(config, longest, num_steps, guesses, eos_ids, end_think_id, pad_id, mesh)
            for guesses in (0, draft_tokens)
        )

    def burst_of(self, slots: Slots) -> Callable[..., tuple[Pages, Drawn]]:
        """Returns the program of a burst for these slots."""
        return self.burst if slots.history is None else self.drafting_burst


@functools.cache
def unroll_fn(config: ModelConfig, weights: DecodeWeights, mesh: Mesh | None) -> Callable[[Params], Params]:
    """Returns the jitted change of layout, onto the mesh of decoding."""
    shardings = None if mesh is None else unrolled_shardings(config, mesh, weights)
    return jax.jit(functools.partial(unroll_params, config=config, weights=weights), out_shardings=shardings)


@functools.cache
def _empty_fn(config: ModelConfig, cache: DecodeCache, mesh: Mesh | None) -> Callable[[int, int], Pages]:
    return jax.jit(
        lambda num_pages, page_size: empty_pages(config, num_pages=num_pages, page_size=page_size, cache=cache),
        static_argnums=(0, 1),
        out_shardings=page_shardings(config, mesh),
    )


@functools.cache
def _prefill_fn(config: ModelConfig, longest: int, mesh: Mesh | None) -> Callable[..., Pages]:
    prefill = functools.partial(prefill_chunk, Transformer(config, unrolled=True), longest=longest)
    return jax.jit(prefill, donate_argnums=1, out_shardings=page_shardings(config, mesh))


@functools.cache
def _copy_fn(config: ModelConfig, mesh: Mesh | None) -> Callable[..., Pages]:
    return jax.jit(copy_pages, donate_argnums=0, out_shardings=page_shardings(config, mesh))


@functools.cache
def _burst_fn(
    config: ModelConfig,
    longest: int,
    num_steps: int,
    draft_tokens: int,
    eos_ids: tuple[int, ...],
    end_think_id: int | None,
    pad_id: int,
    mesh: Mesh | None,
) -> Callable[..., tuple[Pages, Drawn]]:
    burst = functools.partial(
        decode_burst,
        Transformer(config, unrolled=True),
        num_steps=num_steps,
        draft_tokens=draft_tokens,
        longest=longest,
        eos_ids=eos_ids,
        end_think_id=end_think_id,
        pad_id=pad_id,
    )
    everywhere = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    return jax.jit(burst, donate_argnums=1, out_shardings=(page_shardings(config, mesh), everywhere))


def page_shardings(config: ModelConfig, mesh: Mesh | None) -> NamedSharding | None:
    """Returns how the pool lies on the mesh of decoding: pages over the parts of the batch, heads over `kv`."""
    if mesh is None:
        return None
    shape = (batch_shards(mesh), config.num_kv_heads)  # the rest is whole, in pages and in their scales
    return NamedSharding(mesh, fitted_spec(mesh, PAGE_AXES[: len(shape)], shape))
