"""The programs of GRPO, by the makers that its loop calls (`phi4r.rl.train`)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from phi4r.model.config import ModelConfig
from phi4r.model.layouts import unrolled_shardings
from phi4r.model.transformer import Transformer
from phi4r.planning.program import Program, Programs, causal_pairs, without
from phi4r.rl.grpo import make_grpo_loss
from phi4r.rl.scoring import make_score_fn
from phi4r.rl.trajectories import Trajectories
from phi4r.sampling import Sampler, SamplingParams
from phi4r.sampling.decode import prefill
from phi4r.sharding import batch_sharding
from phi4r.train.setup import check_rows, params_on_mesh

# Token ids do not change what is compiled; those of phi-4.
EOS_IDS, PAD_ID = (100265,), 100257


class GrpoPrograms(Programs):
    """Weights for decoding, prefill, decoding, scoring by the reference, and the step."""

    def __init__(self, settings: Any, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__(settings, config, mesh)
        sampler = settings.sampler
        self.sampler = Sampler(self.config, sampler, eos_ids=EOS_IDS, pad_id=PAD_ID, mesh=mesh)
        self.group = settings.grpo.group_size
        self.num_rows = settings.problems_per_step * self.group
        self.length = sampler.prompt_length + sampler.max_response
        self.prompts = self.sampler.prompts_per_wave(settings.problems_per_step, self.group)
        self.waves = -(-settings.problems_per_step // self.prompts)
        self.decoding = self.sampler.mesh
        self.unrolled = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            jax.eval_shape(self.sampler.unroll, self.policy),
            unrolled_shardings(self.config, self.decoding),
        )
        if self.parameters.has_adapter:
            self.ref_params = self.parameters.frozen[0]  # the base is the reference
        else:
            self.ref_params = params_on_mesh(config.replace(param_dtype=config.dtype), mesh)
            self.held["reference"] = self.ref_params

    def programs(self) -> dict[str, Callable[[], Program]]:
        """Returns the makers by name, in the order of a step."""
        parts = self.settings.num_microbatches
        where = "problems_per_step * grpo.group_size ="
        check_rows(self.mesh, self.num_rows, self.length, num_microbatches=parts, where=where)
        return {
            "unroll": self.unroll,
            "prefill": self.prefill,
            "decode": self.decode,
            "reference": self.reference,
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
        """Returns the pass over the prompts of a wave; in the run it is the head of `decode`."""
        prompt_length = self.settings.sampler.prompt_length
        function = functools.partial(prefill, Transformer(self.config, unrolled=True), capacity=self.length)
        return Program(
            title=f"prefill, {self.prompts} x {prompt_length:,} tokens",
            function=jax.jit(function),
            arguments=(self.unrolled, *self.prompt_rows()),
            model_flops=self.body_flops(self.prompts * prompt_length, self.prompts * causal_pairs(prompt_length)),
            product_flops=self.product_flops(self.prompts * causal_pairs(prompt_length)),
            visits=self.visits(prompt_length),
            num_tokens=self.prompts * prompt_length,
            makes_cache=True,
            calls=0,
            **self.rollout(),
        )

    def decode(self) -> Program:
        """Returns the sampling of a wave: prefill, and a loop with a pass for each token of a response."""
        sampler = self.settings.sampler
        rows, response = self.prompts * self.group, sampler.max_response
        pairs = rows * (causal_pairs(self.length) - causal_pairs(sampler.prompt_length))
        replicated = NamedSharding(self.decoding, PartitionSpec())
        sampling = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((), jnp.result_type(x), sharding=replicated), SamplingParams(temperature=1.0)
        )
        keys = jax.ShapeDtypeStruct((self.prompts, self.group, 2), jnp.uint32, sharding=batch_sharding(self.decoding))
        head = 2 * self.config.vocab_size * self.config.embed_dim
        return Program(
            title=f"rollout, {rows} x {self.length:,} tokens, prefill included",
            function=self.sampler.sample_rows,
            arguments=(self.unrolled, *self.prompt_rows(), keys, sampling),
            static={"num_samples": self.group},
            model_flops=self.body_flops(rows * response, pairs) + rows * response * head,
            product_flops=self.product_flops(self.prompts * causal_pairs(sampler.prompt_length)),
            visits=self.visits(sampler.prompt_length),
            num_tokens=rows * response,
            iterations=response,
            makes_cache=True,
            calls=self.waves,
            **self.rollout(),
        )

    def reference(self) -> Program:
        """Returns the scoring of the rollout by the frozen reference."""
        settings = self.settings
        batch = self.batch(self.num_rows, self.length)
        kind = "frozen base" if self.parameters.has_adapter else "reference"
        score = make_score_fn(
            Transformer(self.config.replace(lora=None)),
            chunk_size=settings.logprob_chunk,
            temperature=settings.grpo.temperature,
            num_microbatches=settings.num_microbatches,
        )
        return self.forward(
            "scoring by the reference",
            score,
            self.ref_params,
            batch,
            parts=settings.num_microbatches,
            memory={kind: self.held[kind], "batch": batch},
            resident=without(self.held, kind),
        )

    def grpo_update(self) -> Program:
        """Returns the GRPO step."""
        per_token = self.rows(self.num_rows, self.length, jnp.float32)
        trajectories = Trajectories(
            batch=self.batch(self.num_rows, self.length),
            sampler_logprobs=per_token,
            ref_logprobs=per_token,
            advantages=jax.ShapeDtypeStruct((self.num_rows,), jnp.float32, sharding=batch_sharding(self.mesh)),
        )
        loss_fn = make_grpo_loss(self.model, self.settings.grpo, chunk_size=self.settings.logprob_chunk)
        resident = {"reference": self.ref_params} if "reference" in self.held else {}
        return self.update("GRPO step", loss_fn, trajectories, resident)

    def rollout(self) -> dict[str, Any]:
        """Returns the fields that the programs of a rollout share."""
        memory = {"decoding weights": self.unrolled}
        return {"mesh": self.decoding, "memory": memory, "resident": self.held}

    def prompt_rows(self) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        """Returns tokens and segment ids of the prompts of a wave."""
        shape = (self.prompts, self.settings.sampler.prompt_length)
        rows = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=batch_sharding(self.decoding))
        return rows, rows

    def body_flops(self, num_tokens: int, pairs: int) -> int:
        """Returns model FLOPs of a forward pass without the head, which a sampler asks for last tokens only."""
        head = 2 * self.config.vocab_size * self.config.embed_dim
        return self.forward_flops(num_tokens, pairs) - head * num_tokens
