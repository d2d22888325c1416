"""The host face of the sampler: lists of prompt ids in, Samples out."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from phi4r.errors import UserError
from phi4r.model.config import ModelConfig
from phi4r.model.int8 import DecodeCache, DecodeWeights
from phi4r.sampling.batching import Batching, FindStop, OnFinished, OnTokens, SamplerStats
from phi4r.sampling.compiled import SamplerPrograms, unroll_fn
from phi4r.sampling.logits import SamplingParams
from phi4r.sampling.programs import Slots
from phi4r.sampling.samples import FINISH_LENGTH, FINISH_STOP, Samples
from phi4r.sampling.slots import Response
from phi4r.sharding import batch_sharding, batch_shards, decoding_mesh, put_whole
from phi4r.typing import Array, Params

FEWEST_ROWS = 8  # a smaller batch of decoding is hardly faster, and one of this size has time for drafts
PREFILL_TOKENS = 2048  # that one call takes on each device
FEWEST_PROMPTS = 4  # for fewer a program of their own would hardly pay
LONGEST_CHUNK = 512  # tokens of one prompt in such a call


@dataclasses.dataclass(frozen=True)
class SamplerSettings:
    """The fixed shapes of a sampler.

    Attributes:
      prompt_length: tokens that a prompt may have.
      max_response: tokens that a response may have, its end token included.
      num_slots: sequences decoded at the same time, or None for all that are asked for.
      tensor: devices that share the weights of a layer; None for the `tensor` of the mesh. Decoding holds a copy of
        the weights in the dtype of activations, divided over these devices alone.
      cache_tokens: tokens for which the cache has pages, on all devices together; None for as many as all slots can
        come to need. Fewer are no mistake: where pages run out, the youngest sequence waits, and is prefilled again
        (`ModelConfig.kv_cache_bytes` says what a token takes).
      page_size: tokens of a page.
      burst: decode steps between two looks of the host.
      draft_tokens: guesses that a decode step checks in a batch of at most `FEWEST_ROWS` sequences, as at the end of a
        rollout: what followed the last time the newest tokens stood in the sequence. Responses are the same ones.
      weights: "int8" to decode with rounded weights (`phi4r.model.int8`): faster, and another policy than the one that
        is trained.
      cache: "int8" to hold rounded keys and values: nearly twice the tokens of bfloat16 in the same memory, and another
        policy too.
    """

    prompt_length: int
    max_response: int
    num_slots: int | None = None
    tensor: int | None = None
    cache_tokens: int | None = None
    page_size: int = 128
    burst: int = 32
    draft_tokens: int = 0
    weights: DecodeWeights = "float"
    cache: DecodeCache = "float"

    def __post_init__(self):
        for name in ("prompt_length", "max_response", "page_size", "burst"):
            if getattr(self, name) < 1:
                raise UserError(f"sampler.{name}={getattr(self, name)} must be at least 1.")
        if self.num_slots is not None and self.num_slots < 1:
            raise UserError(f"sampler.num_slots={self.num_slots} must be at least 1, or None for all.")
        if self.draft_tokens < 0:
            raise UserError(f"sampler.draft_tokens={self.draft_tokens} must be 0, for none, or more.")


class Sampler:
    """Samples responses with a few compiled programs; parameters are passed, never held.

    The random key of a token is a function of (key, prompt id, sample, token index), so what is sampled does not depend
    on slots, pages, the order of refills or devices.

    Attributes:
      settings: fixed shapes.
      mesh: of decoding (`phi4r.sharding.decoding_mesh`), or None for one device.
      unroll: the compiled change of layout, params -> unrolled params.
      programs: the compiled programs.
      shards: parts of the batch, each with slots and pages of its own.
      pad_id: written where there is no token.
      compiled_rows: sizes of batches for which a burst was compiled.
      compiled_prefills: numbers of prompts for which prefill was.
      stats: SamplerStats of the last call.
    """

    def __init__(
        self,
        config: ModelConfig,
        settings: SamplerSettings,
        *,
        eos_ids: Sequence[int],
        pad_id: int,
        end_think_id: int | None = None,
        mesh: Mesh | None = None,
    ):
        """Prepares the compiled functions; nothing is compiled before the first call.

        Args:
          config: the model; for a longrope one that is trained too, from `ModelConfig.for_length`.
          settings: fixed shapes.
          eos_ids: tokens that end a response.
          pad_id: written where there is no token.
          end_think_id: what closes a thought by force (`SamplingParams.max_thought`), if anything.
          mesh: rows are spread over its devices, and the parts of a layer over its `tensor` ones; None for one device.

        Raises:
          UserError: for a cache that cannot hold one sequence.
        """
        self.settings = settings
        self.config = config
        self.mesh = None if mesh is None else decoding_mesh(mesh, tensor=settings.tensor, heads=config.heads)
        self.shards = 1 if self.mesh is None else batch_shards(self.mesh)
        self.unroll = unroll_fn(config, settings.weights, self.mesh)
        self.programs = SamplerPrograms(
            config,
            longest=settings.prompt_length + settings.max_response,
            num_steps=min(settings.burst, settings.max_response),
            draft_tokens=settings.draft_tokens,
            eos_ids=tuple(eos_ids),
            end_think_id=end_think_id,
            pad_id=pad_id,
            cache=settings.cache,
            mesh=self.mesh,
        )
        self.stats: SamplerStats | None = None
        self._most_slots = 0
        self.pad_id = pad_id
        self.compiled_rows: set[int] = set()
        self.compiled_prefills: set[int] = set()
        self.num_pages(self.shards)

    @property
    def pages_of_longest(self) -> int:
        """M, the pages of a sequence of full length."""
        return -(-self.programs.longest // self.settings.page_size)

    def slots(self, num_rows: int) -> int:
        """Returns how many sequences each part of the batch decodes at a time, of `num_rows` asked for.

        A call that asks for less than the ones before has as many slots as they had, and nothing to compile.
        """
        wanted = num_rows if self.settings.num_slots is None else min(num_rows, self.settings.num_slots)
        self._most_slots = max(self._most_slots, -(-wanted // self.shards))
        return self._most_slots

    def num_pages(self, slots: int) -> int:
        """Returns the pages of each part of the batch, for `slots` sequences in it.

        Raises:
          UserError: if they cannot hold one sequence of full length.
        """
        least = self.pages_of_longest + 2  # page 0, and one for the copy of a prompt's last page
        if self.settings.cache_tokens is None:
            return slots * (self.pages_of_longest + 1) + 1
        pages = self.settings.cache_tokens // self.settings.page_size // self.shards
        if pages < least:
            raise UserError(
                f"sampler.cache_tokens={self.settings.cache_tokens} gives {pages} pages of {self.settings.page_size} "
                f"tokens to each of {self.shards} parts of the batch, and one sequence of {self.programs.longest} "
                f"tokens needs {least}; raise it to {least * self.settings.page_size * self.shards}, or lower "
                "max_response."
            )
        return min(pages, slots * (self.pages_of_longest + 1) + 1)

    def sample(
        self,
        unrolled: Params,
        prompts: Sequence[Sequence[int]],
        key: Array,
        *,
        prompt_ids: Sequence[int] | None = None,
        num_samples: int = 1,
        sample_ids: Sequence[Sequence[int]] | None = None,
        sampling: SamplingParams | None = None,
        limits: Sequence[int] | None = None,
        on_tokens: OnTokens | None = None,
        on_finished: OnFinished | None = None,
        find_stop: FindStop | None = None,
    ) -> Samples:
        """Samples `num_samples` responses to each prompt, or those that `sample_ids` names.

        Args:
          unrolled: `sampler.unroll(params)`.
          prompts: token ids of each prompt.
          key: random key of this call, as `fold_in(key(seed), step)`.
          prompt_ids: stable number of each prompt, for its keys; default 0, 1, 2, ...
          num_samples: G.
          sample_ids: which samples of each prompt to draw, where they differ; default 0, 1, ... G - 1 of all. A sample
            that is drawn alone is the one that it would have been among others.
          sampling: temperature and so on.
          limits: the most tokens of each response, in the order of rows; default `sampling.max_tokens` for all.
          on_tokens: called for every response with the tokens of each burst, while the next one runs.
          on_finished: called for every response when it is finished, while others are still drawn.
          find_stop: looks for stop strings after every burst.

        Returns:
          Samples of numpy arrays, a row for each sample of the first prompt, then of the second, and so on.

        Raises:
          UserError: for no prompts, an empty prompt or one longer than `prompt_length`.
        """
        self._check(prompts)
        sampling = sampling or SamplingParams()
        prompt_ids = range(len(prompts)) if prompt_ids is None else prompt_ids
        sample_ids = [range(num_samples)] * len(prompts) if sample_ids is None else sample_ids
        asked = [(prompt, sample) for prompt, samples in enumerate(sample_ids) for sample in samples]
        keys = _row_keys(key, [(prompt_ids[prompt], sample) for prompt, sample in asked])
        limits = [int(sampling.max_tokens)] * len(asked) if limits is None else limits
        responses = [
            Response(row, list(prompts[prompt]), row_key, min(limit, self.settings.max_response))
            for row, ((prompt, _), row_key, limit) in enumerate(zip(asked, keys, limits, strict=True))
        ]
        ends = np.cumsum([len(samples) for samples in sample_ids]).tolist()
        groups = [responses[end - len(samples) : end] for end, samples in zip(ends, sample_ids, strict=True) if samples]
        run = Batching(self, unrolled, groups, sampling, on_tokens, on_finished, find_stop)
        with contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh):
            self.stats = run.run()
            self._compile_rest(unrolled, run)
        return self._collect(responses)

    def row_sizes(self, slots: int) -> list[int]:
        """Returns the rows of each part of the batch for which a burst is compiled, from all slots to the fewest."""
        sizes = [slots]
        while sizes[-1] > FEWEST_ROWS:
            # Halves would save 1% of the rows of 512 long-tailed responses, for twice the programs.
            sizes.append(max(FEWEST_ROWS, -(-sizes[-1] // 4)))
        return sizes

    def prefill_shape(self, slots: int) -> tuple[int, int]:
        """Returns (R, C): most prompts of each part of the batch, and tokens of each, that a call of prefill takes."""
        chunk = min(LONGEST_CHUNK, -(-self.settings.prompt_length // 8) * 8)
        return max(1, min(slots, PREFILL_TOKENS // chunk)), chunk

    def prefill_sizes(self, slots: int) -> list[int]:
        """Returns the numbers of prompts for which prefill is compiled: a single refill should not pay for all rows."""
        sizes = [self.prefill_shape(slots)[0]]
        while sizes[-1] > FEWEST_PROMPTS:
            sizes.append(-(-sizes[-1] // 8))
        return sizes

    def to_mesh(self, rows: Any) -> Any:
        """Puts arrays that every host has on the mesh, rows over the parts of the batch."""
        if self.mesh is None:
            return rows
        return jax.tree.map(lambda x: put_whole(np.asarray(x), batch_sharding(self.mesh)), rows)

    def empty_slots(self, rows: int) -> Slots:
        """Returns slots without a sequence, for `rows` in each part of the batch; numpy."""
        count = rows * self.shards
        drafting = self.settings.draft_tokens and rows <= FEWEST_ROWS
        return Slots(
            table=np.zeros((count, self.pages_of_longest), np.int32),
            lengths=np.zeros(count, np.int32),
            tokens=np.full(count, self.pad_id, np.int32),
            keys=np.zeros((count, 2), np.uint32),
            drawn=np.zeros(count, np.int32),
            limits=np.zeros(count, np.int32),
            thinking=np.zeros(count, bool),
            history=np.zeros((count, self.programs.longest), np.int32) if drafting else None,
        )

    def _compile_rest(self, unrolled: Params, run: Batching) -> None:
        """Compiles the sizes that this call did not come through, so that no later call has to."""
        for count in self.prefill_sizes(run.slots):
            if count not in self.compiled_prefills:
                run.prefill(count, [])
        for rows in self.row_sizes(run.slots):
            if rows not in self.compiled_rows:
                run.burst(self.empty_slots(rows))

    def _check(self, prompts: Sequence[Sequence[int]]) -> None:
        """Refuses prompts that cannot be answered."""
        if not prompts:
            raise UserError("there are no prompts to answer; give at least one.")
        for row, prompt in enumerate(prompts):
            if not 0 < len(prompt) <= self.settings.prompt_length:
                raise UserError(
                    f"prompt {row} has {len(prompt)} tokens; the sampler takes 1 to prompt_length="
                    f"{self.settings.prompt_length}. Raise prompt_length or drop the prompt."
                )

    def _collect(self, responses: list[Response]) -> Samples:
        """Returns finished responses as one rectangle."""
        width, start = self.programs.longest, self.settings.prompt_length
        shape = (len(responses), width)
        samples = Samples(
            tokens=np.full(shape, self.pad_id, np.int32),
            segment_ids=np.zeros(shape, np.int32),
            response_mask=np.zeros(shape, bool),
            logprobs=np.zeros(shape, np.float32),
            entropies=np.zeros(shape, np.float32),
            finish_reason=np.array([FINISH_STOP if r.stopped else FINISH_LENGTH for r in responses], np.int32),
        )
        for row, response in enumerate(responses):
            first, end = start - len(response.prompt), start + len(response.response)
            samples.tokens[row, first:start] = response.prompt
            samples.tokens[row, start:end] = response.response
            samples.segment_ids[row, first:end] = 1
            samples.response_mask[row, start:end] = True
            samples.logprobs[row, start:end] = np.concatenate(response.logprobs)[: end - start]
            samples.entropies[row, start:end] = np.concatenate(response.entropies)[: end - start]
        return samples


def _row_keys(key: Array, asked: Sequence[tuple[int, int]]) -> np.ndarray:
    """Returns the data of the random key of every (prompt id, sample) asked for; [rows 2] uint32."""
    padded = np.zeros((1 << (len(asked) - 1).bit_length(), 2), np.uint32)  # few sizes, as each is compiled
    padded[: len(asked)] = asked
    return np.asarray(_fold_ids(key, padded))[: len(asked)]


@jax.jit
def _fold_ids(key: Array, asked: Array) -> Array:
    """Returns the data of fold_in(fold_in(key, prompt), sample); [rows 2] uint32."""
    fold = jax.random.fold_in
    return jax.random.key_data(jax.vmap(lambda pair: fold(fold(key, pair[0]), pair[1]))(asked))
