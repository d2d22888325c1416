"""The programs of GRPO, by the makers that its loop calls (`phi4r.rl.train`)."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from phi4r.model.attention.paged import LARGEST_BLOCK
from phi4r.model.config import ModelConfig
from phi4r.model.kv_cache import Pages
from phi4r.model.transformer import Transformer
from phi4r.planning.program import Program, Programs, causal_pairs, without
from phi4r.rl.objective import make_grpo_loss
from phi4r.rl.scoring import make_score_fn
from phi4r.rl.trajectories import Trajectories, rows_in_use
from phi4r.sampling import Sampler, SamplingParams
from phi4r.sharding import batch_sharding
from phi4r.train.setup import params_on_mesh
from phi4r.typing import Params

# Token ids do not change what is compiled; those of phi-4.
EOS_IDS, PAD_ID = (100265,), 100257
# What times assume of lengths, memory nothing: the paper's responses have about 11k of 31,744 tokens in the mean.
MEAN_RESPONSE = 0.35


class GrpoPrograms(Programs):
    """Weights for decoding, prefill, decoding, scoring by the reference, and the step."""

    def __init__(self, settings: Any, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__(settings, config, mesh)
        sampler = settings.sampler
        self.sampler = Sampler(self.config, sampler, eos_ids=EOS_IDS, pad_id=PAD_ID, mesh=mesh)
        self.group = settings.grpo.group_size
        self.packed = settings.packed_shape(mesh)
        self.num_rows = settings.problems_per_step * self.group
        self.decoding = self.sampler.mesh
        self.slots = self.sampler.slots(self.num_rows)
        self.pages = self.page_pool()
        self.unrolled = self.sampler.unroll.eval_shape(self.policy)
        # The thread that judges the rollout ahead keeps the weights that drew it, for refills.
        self.ahead = {"decoding weights": self.unrolled} if settings.pipeline else {}
        if self.parameters.has_adapter:
            self.ref_params = self.parameters.frozen[0]  # the base is the reference
        else:
            self.ref_params = params_on_mesh(config.replace(param_dtype=config.dtype), mesh)
            if settings.grpo.kl_beta:
                self.held["reference"] = self.ref_params

    def programs(self) -> dict[str, Callable[[], Program]]:
        """Returns the makers by name, in the order of a step."""
        grpo = self.settings.grpo
        return {
            "unroll": self.unroll,
            "prefill": self.prefill,
            "decode": self.decode,
            **({"reference": self.reference} if grpo.kl_beta else {}),
            **({"old": self.old} if grpo.old_logprobs == "trainer" else {}),
            "update": self.grpo_update,
        }

    def unroll(self) -> Program:
        """Returns the change from the layout of training to that of decoding."""
        return Program(
            title="weights for decoding",
            mesh=self.mesh,
            function=self.sampler.unroll,
            arguments=(self.policy,),
            memory={kind: self.held[kind] for kind in ("parameters", "frozen base") if kind in self.held},
            resident=without(self.held, "parameters", "frozen base"),
            num_tokens=0,
            model_flops=0,
            product_flops=0,
        )

    def prefill(self) -> Program:
        """Returns a chunk of prompts; it may have any place in its prompt, and stands in the middle."""
        shards, (count, chunk) = self.sampler.shards, self.sampler.prefill_shape(self.slots)
        prompt_length, page_size = self.settings.sampler.prompt_length, self.settings.sampler.page_size
        rows, seen = count * shards, max(0, prompt_length - chunk) / 2
        slots = self.on_batch(self.sampler.empty_slots(count))
        tokens = self.on_batch(np.zeros((rows, chunk), np.int32))
        pairs = int(rows * (chunk * seen + causal_pairs(chunk)))
        chunks = self.settings.problems_per_step * -(-prompt_length // chunk)
        return Program(
            title=f"a chunk of {chunk:,} tokens of {rows} prompts",
            function=self.sampler.programs.prefill,
            arguments=(self.unrolled, self.pages, slots.table, slots.lengths, tokens, slots.lengths),
            model_flops=self.body_flops(rows * chunk, pairs),
            num_tokens=rows * chunk,
            calls=-(-chunks // rows),
            iterations=math.ceil(seen / page_size),  # of the loop over pages
            **self.rollout(),
        )

    def decode(self) -> Program:
        """Returns a burst of decode steps with a sequence in every slot."""
        sampler, steps = self.settings.sampler, self.sampler.programs.num_steps
        rows, resident = self.slots * self.sampler.shards, self.resident_tokens()
        places = self.sampler.num_pages(self.slots) * self.sampler.shards * sampler.page_size
        running = min(rows, places // resident)  # some may have to wait for pages
        num_tokens = running * steps
        slots = self.on_batch(self.sampler.empty_slots(self.slots))
        sampling = jax.tree.map(  # the loop passes numbers of Python
            lambda x: jax.ShapeDtypeStruct((), jnp.result_type(x), weak_type=True), SamplingParams()
        )
        head = 2 * self.config.vocab_size * self.config.embed_dim
        return Program(
            title=f"a burst of {steps} decode steps, {rows} slots, {places:,} tokens in pages",
            function=self.sampler.programs.burst_of(slots),
            arguments=(self.unrolled, self.pages, slots, sampling),
            model_flops=self.body_flops(num_tokens, num_tokens * resident) + num_tokens * head,
            num_tokens=num_tokens,
            visits=running * resident / sampler.page_size / min(rows, self.sampler.shards * LARGEST_BLOCK),
            page_share=running * resident / places,
            iterations=steps,
            steps=steps,
            calls=math.ceil(self.num_rows * MEAN_RESPONSE * sampler.max_response / num_tokens),
            notes=(
                f"times assume responses of {MEAN_RESPONSE:.0%} of max_response, in the mean {resident:,} tokens in "
                "the pages of a running sequence; memory is that of all slots and pages.",
            ),
            **self.rollout(),
        )

    def page_pool(self) -> Pages:
        """Returns the pool of pages as ShapeDtypeStructs."""
        num_pages = self.sampler.num_pages(self.slots) * self.sampler.shards
        with jax.set_mesh(self.decoding):
            return self.sampler.programs.empty.eval_shape(num_pages, self.settings.sampler.page_size)

    def resident_tokens(self) -> int:
        """Returns the tokens that a running sequence has in pages in the mean: its prompt, and half its response."""
        sampler = self.settings.sampler
        return sampler.prompt_length + int(MEAN_RESPONSE * sampler.max_response) // 2

    def on_batch(self, tree: Any) -> Any:
        """Returns what the sampler puts on the mesh, a row for each prompt or sequence, as ShapeDtypeStructs."""
        rows = batch_sharding(self.decoding)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows), tree)

    def reference(self) -> Program:
        """Returns the scoring of the responses of an update by the frozen reference."""
        kind = "frozen base" if self.parameters.has_adapter else "reference"
        return self.scoring("scoring by the reference", self.config.replace(lora=None), self.ref_params, (kind,))

    def old(self) -> Program:
        """Returns the scoring of the same by the policy, before it is updated."""
        kinds = tuple(kind for kind in ("parameters", "frozen base") if kind in self.held)
        return self.scoring("scoring by the policy", self.config, self.policy, kinds)

    def scoring(self, title: str, config: ModelConfig, params: Params, kinds: tuple[str, ...]) -> Program:
        """Returns the scoring by `params`, which are the classes `kinds` of what is held."""
        settings = self.settings
        batch = self.batch(self.packed.num_rows, self.packed.row_length)
        score = make_score_fn(
            Transformer(config),
            chunk_size=settings.logprob_chunk,
            temperature=settings.grpo.temperature,
            num_microbatches=settings.num_microbatches,
        )
        program = self.forward(
            title,
            score,
            params,
            batch,
            memory={**{kind: self.held[kind] for kind in kinds}, "batch": batch},
            resident={**without(self.held, *kinds), **self.ahead},
        )
        return self.of_parts(program)

    def grpo_update(self) -> Program:
        """Returns the GRPO step."""
        rows, length = self.packed.num_rows, self.packed.row_length
        per_token = self.rows(rows, length, jnp.float32)
        grpo = self.settings.grpo
        trajectories = Trajectories(
            batch=self.batch(rows, length),
            sampler_logprobs=per_token,
            ref_logprobs=per_token if grpo.kl_beta else None,
            advantages=per_token,
            old_logprobs=per_token if grpo.old_logprobs == "trainer" else None,
        )
        loss_fn = make_grpo_loss(self.model, grpo, chunk_size=self.settings.logprob_chunk)
        resident = {**({"reference": self.ref_params} if "reference" in self.held else {}), **self.ahead}
        return self.of_parts(self.update("GRPO step", loss_fn, trajectories, resident, rows_in_use))

    def of_parts(self, program: Program) -> Program:
        """Returns a program over the responses of an update, whose loop ends with the last part in use: all, at worst.

        Products of attention kernels in a loop on data are counted once (`phi4r.planning.flops`): over all parts.
        """
        calls, parts = self.settings.grpo.updates_per_rollout, self.settings.num_microbatches
        if parts == 1:
            return dataclasses.replace(program, calls=calls)
        pairs = self.packed.num_rows * causal_pairs(self.packed.row_length)
        return dataclasses.replace(program, calls=calls, iterations=parts, product_flops=self.product_flops(pairs))

    def rollout(self) -> dict[str, Any]:
        """Returns the fields that the programs of a rollout share; their attention has no kernels."""
        memory = {"decoding weights": self.unrolled, "cache": self.pages}
        return {"mesh": self.decoding, "memory": memory, "resident": self.held, "product_flops": 0}

    def body_flops(self, num_tokens: int, pairs: int) -> int:
        """Returns model FLOPs of a forward pass without the head, which a sampler asks for last tokens only."""
        head = 2 * self.config.vocab_size * self.config.embed_dim
        return self.forward_flops(num_tokens, pairs) - head * num_tokens
