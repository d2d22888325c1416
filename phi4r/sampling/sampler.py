"""The host face of the sampler: lists of prompt ids in, Samples out."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from phi4r.errors import UserError
from phi4r.hosts import to_host
from phi4r.model.config import ModelConfig
from phi4r.model.layouts import unroll_params, unrolled_shardings
from phi4r.model.transformer import Transformer
from phi4r.sampling.decode import Samples, sample_rows
from phi4r.sampling.logits import SamplingParams
from phi4r.sharding import batch_sharding, batch_shards, decoding_mesh, put_whole
from phi4r.typing import Array, Params


@dataclasses.dataclass(frozen=True)
class SamplerSettings:
    """The fixed shapes of a sampler.

    Attributes:
      prompt_length: tokens that a prompt may have; shorter ones are padded on the left.
      max_response: tokens that a response may have, its end token included.
      rows_per_wave: rows (prompts x samples) decoded at the same time, or None for all; but never less than the
        samples of one prompt on each device. It bounds the cache:
        `ModelConfig.kv_cache_bytes(rows_per_wave * (prompt_length + max_response))`.
      tensor: devices that share the weights of a layer; None for the `tensor` of the mesh. Decoding holds a copy of
        the weights in the dtype of activations, divided over these devices alone.
    """

    prompt_length: int
    max_response: int
    rows_per_wave: int | None = None
    tensor: int | None = None


class Sampler:
    """Samples responses with one compiled program a number of prompts; parameters are passed, never held.

    The random key of a token is a function of (key, prompt id, sample, token index), so what is sampled does not depend
    on how prompts are grouped into waves or devices.

    Attributes:
      settings: fixed shapes.
      mesh: of decoding (`phi4r.sharding.decoding_mesh`), or None for one device.
      unroll: the compiled change of layout, params -> unrolled params.
      sample_rows: the compiled program of one wave (`phi4r.sampling.decode.sample_rows`).
    """

    def __init__(
        self,
        config: ModelConfig,
        settings: SamplerSettings,
        *,
        eos_ids: Sequence[int],
        pad_id: int,
        mesh: Mesh | None = None,
    ):
        """Prepares the compiled functions; nothing is compiled before the first call.

        Args:
          config: the model; for a longrope one that is trained too, from `ModelConfig.for_length`.
          settings: fixed shapes.
          eos_ids: tokens that end a response.
          pad_id: written where there is no token.
          mesh: rows are spread over its devices, and the parts of a layer over its `tensor` ones; None for one device.
        """
        self.settings = settings
        self.mesh = None if mesh is None else decoding_mesh(mesh, tensor=settings.tensor, heads=config.heads)
        self.unroll = _unroll_fn(config, self.mesh)
        self.sample_rows = _sample_fn(config, settings.max_response, tuple(eos_ids), pad_id)
        self._pad_id = pad_id

    def sample(
        self,
        unrolled: Params,
        prompts: Sequence[Sequence[int]],
        key: Array,
        *,
        prompt_ids: Sequence[int] | None = None,
        num_samples: int = 1,
        sampling: SamplingParams | None = None,
    ) -> Samples:
        """Samples `num_samples` responses to each prompt.

        Args:
          unrolled: `sampler.unroll(params)`.
          prompts: token ids of each prompt.
          key: random key of this call, as `fold_in(key(seed), step)`.
          prompt_ids: stable number of each prompt, for its keys; default 0, 1, 2, ...
          num_samples: G.
          sampling: temperature and so on.

        Returns:
          Samples of numpy arrays with len(prompts) * G rows.

        Raises:
          UserError: for no prompts, an empty prompt or one longer than `prompt_length`.
        """
        if not prompts:
            raise UserError("there are no prompts to answer; give at least one.")
        sampling = sampling or SamplingParams()
        prompt_ids = range(len(prompts)) if prompt_ids is None else prompt_ids
        tokens, segments = self._pad_left(prompts)
        keys = np.asarray(_row_keys(key, jnp.asarray(list(prompt_ids), jnp.uint32), num_samples))
        per_wave = self.prompts_per_wave(len(prompts), num_samples)
        waves = []
        for start in range(0, len(prompts), per_wave):
            chosen = np.arange(start, start + per_wave)
            real = chosen < len(prompts)
            chosen = np.minimum(chosen, len(prompts) - 1)
            wave_segments = np.where(real[:, None], segments[chosen], 0)  # an all-0 row draws nothing
            rows = self._to_mesh((tokens[chosen], wave_segments, keys[chosen]))
            with contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh):
                wave = self.sample_rows(unrolled, *rows, sampling, num_samples=num_samples)
            kept = int(real.sum()) * num_samples
            waves.append(jax.tree.map(lambda x, kept=kept: x[:kept], to_host(wave)))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *waves)

    def _to_mesh(self, rows: tuple[np.ndarray, ...]) -> tuple[Array, ...]:
        """Puts rows that every host has on the mesh."""
        if self.mesh is None:
            return rows
        return tuple(put_whole(x, batch_sharding(self.mesh)) for x in rows)

    def prompts_per_wave(self, num_prompts: int, num_samples: int) -> int:
        """Returns how many prompts are decoded together: a multiple of the shards, at least one group for each."""
        shards = batch_shards(self.mesh) if self.mesh is not None else 1
        all_prompts = -(-num_prompts // shards) * shards
        if self.settings.rows_per_wave is None:
            return all_prompts
        fitting = self.settings.rows_per_wave // num_samples // shards * shards
        return min(all_prompts, max(shards, fitting))

    def _pad_left(self, prompts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Returns tokens and segment ids [P prompt_length], the prompts at the right end."""
        length = self.settings.prompt_length
        tokens = np.full((len(prompts), length), self._pad_id, np.int32)
        segments = np.zeros((len(prompts), length), np.int32)
        for row, prompt in enumerate(prompts):
            if not 0 < len(prompt) <= length:
                raise UserError(
                    f"prompt {row} has {len(prompt)} tokens; the sampler takes 1 to prompt_length={length}. "
                    "Raise prompt_length or drop the prompt."
                )
            tokens[row, length - len(prompt) :] = prompt
            segments[row, length - len(prompt) :] = 1
        return tokens, segments


# Samplers of one model and shape share their compiled programs: rollouts, probes and evaluations come to the same ones.


@functools.cache
def _unroll_fn(config: ModelConfig, mesh: Mesh | None) -> Callable[[Params], Params]:
    """Returns the jitted change of layout, onto the mesh of decoding."""
    shardings = None if mesh is None else unrolled_shardings(config, mesh)
    return jax.jit(functools.partial(unroll_params, config=config), out_shardings=shardings)


@functools.cache
def _sample_fn(config: ModelConfig, max_response: int, eos_ids: tuple[int, ...], pad_id: int) -> Callable[..., Samples]:
    """Returns the jitted `sample_rows`."""
    sample = functools.partial(
        sample_rows, Transformer(config, unrolled=True), max_response=max_response, eos_ids=eos_ids, pad_id=pad_id
    )
    return jax.jit(sample, static_argnames="num_samples")


@functools.partial(jax.jit, static_argnums=2)
def _row_keys(key: Array, prompt_ids: Array, num_samples: int) -> Array:
    """Returns the data of the random key of every (prompt, sample); [P G 2] uint32."""
    fold = jax.random.fold_in
    samples = jnp.arange(num_samples, dtype=jnp.uint32)
    keys = jax.vmap(lambda prompt: jax.vmap(lambda sample: fold(fold(key, prompt), sample))(samples))(prompt_ids)
    return jax.random.key_data(keys)
