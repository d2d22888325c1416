"""A program of an experiment, and the maker of what SFT and GRPO share.

Nothing is allocated: arguments are ShapeDtypeStructs with shardings, on a mesh of devices that need not exist. Beside
its arguments a program has memory that it does not touch but that is taken while it runs, as the moments of the
optimizer during a rollout: `resident`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from phi4r.model.attention.blockwise import block_sizes
from phi4r.model.config import ModelConfig
from phi4r.model.inputs import TokenBatch
from phi4r.model.transformer import Transformer
from phi4r.sharding import token_sharding
from phi4r.train.optim import make_optimizer
from phi4r.train.parameters import Parameters
from phi4r.train.state import HOST, TrainState, abstract_state, state_shardings
from phi4r.train.step import RowsInUse, make_update_fn
from phi4r.typing import Params


@dataclasses.dataclass(frozen=True)
class Program:
    """One compiled program of an experiment.

    Attributes:
      title: what it does.
      mesh: in use while it is traced.
      function: jitted.
      arguments: of ShapeDtypeStructs with shardings.
      memory: the large arguments by class: trees of ShapeDtypeStructs.
      num_tokens: tokens of one call over all devices, padding included; those drawn, where it samples.
      model_flops: FLOPs of one call over all devices that the mathematics asks for: causal pairs, nothing recomputed.
      product_flops: FLOPs of one product of an attention kernel over the pairs of a (micro-)batch.
      visits: passes of a loop on data inside another loop: key blocks that a query block of blockwise attention sees on
        average, or blocks of pages.
      page_share: of the pool, that the kernels for pages read in one pass (`phi4r.model.attention.paged`).
      static: static keyword arguments.
      resident: what lies in memory besides, by class.
      calls: how often a training step calls it; 0 for a part of another program, and for what is called rarely.
      iterations: most passes of its loop with a data-dependent end (parts of a batch, steps of a burst); 0 without one.
      steps: decode steps of a call; 0 for another program.
      trains: whether it makes gradients.
      notes: what the figures assume.
    """

    title: str
    mesh: Mesh
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    memory: dict[str, Any]
    num_tokens: int
    model_flops: int
    product_flops: int
    visits: float = 1.0
    page_share: float = 1.0
    static: dict[str, Any] = dataclasses.field(default_factory=dict)
    resident: dict[str, Any] = dataclasses.field(default_factory=dict)
    calls: int = 1
    iterations: int = 0
    steps: int = 0
    trains: bool = False
    notes: tuple[str, ...] = ()


def shard_bytes(tree: Any, *, on_host: bool = False) -> int:
    """Returns the bytes of a tree of ShapeDtypeStructs with shardings on one device, or on the host for one device."""

    def leaf_bytes(leaf: jax.ShapeDtypeStruct) -> int:
        if (leaf.sharding.memory_kind == HOST) != on_host:
            return 0
        bits = jnp.iinfo(leaf.dtype).bits if jnp.issubdtype(leaf.dtype, jnp.integer) else 8 * leaf.dtype.itemsize
        return math.prod(leaf.sharding.shard_shape(leaf.shape)) * bits // 8

    return sum(map(leaf_bytes, jax.tree.leaves(tree)))


class Programs:
    """What the programs of SFT and of GRPO share.

    Attributes:
      config: of the policy.
      state: the train state as ShapeDtypeStructs on the mesh.
      policy: all parameters of the policy, adapters joined.
      held: what the loop holds in memory whatever it does, by class.
    """

    def __init__(self, settings: Any, config: ModelConfig, mesh: Mesh) -> None:
        """Prepares shapes; `settings` are those of the loop, `config` the model without adapters."""
        self.settings, self.mesh = settings, mesh
        self.parameters = Parameters(settings.init_from, config, mesh, settings.lora, seed=settings.seed)
        self.parameters.frozen = self.parameters.abstract_frozen()  # in place of what the loop loads
        self.config = self.parameters.config
        self.model = Transformer(self.config)
        self.optimizer, self.schedule = make_optimizer(settings.optimizer, num_steps=settings.num_steps)
        trained, offload = self.parameters.abstract_trained(), settings.optimizer.offload
        self.state: TrainState = abstract_state(trained, self.optimizer, offload=offload)
        self.policy = self.parameters.policy(self.state.params)
        # What the loop holds whatever it does.
        self.held = {"parameters": self.state.params, "optimizer": self.state.opt_state}
        if self.parameters.has_adapter:
            self.held["frozen base"] = self.parameters.frozen

    def rows(self, num_rows: int, length: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        """Returns rows of tokens, or of something per token, on the mesh."""
        return jax.ShapeDtypeStruct((num_rows, length), dtype, sharding=token_sharding(self.mesh))

    def batch(self, num_rows: int, length: int) -> TokenBatch:
        """Returns a batch on the mesh."""
        tokens = self.rows(num_rows, length)
        return TokenBatch(tokens, tokens, tokens, tokens, loss_mask=self.rows(num_rows, length, jnp.float32))

    def update(
        self, title: str, loss_fn: Any, batch: Any, resident: dict[str, Any], rows_in_use: RowsInUse | None = None
    ) -> Program:
        """Returns the training step."""
        num_rows, length = jax.tree.leaves(batch)[0].shape
        pairs = num_rows * causal_pairs(length)
        return Program(
            title=title,
            mesh=self.mesh,
            function=make_update_fn(
                self.parameters.policy_loss(loss_fn),
                self.optimizer,
                num_microbatches=self.settings.num_microbatches,
                schedule=self.schedule,
                state_shardings=state_shardings(self.state),
                rows_in_use=rows_in_use,
            ),
            arguments=(self.state, batch, *self.parameters.frozen),
            memory={**without(self.held, "reference"), "batch": batch},
            num_tokens=num_rows * length,
            model_flops=self.config.train_flops(num_rows * length, pairs),
            product_flops=self.product_flops(pairs, self.settings.num_microbatches),
            visits=self.visits(length),
            resident=resident,
            trains=True,
        )

    def forward(self, title: str, function: Any, params: Params, batch: TokenBatch, **fields: Any) -> Program:
        """Returns a program that goes through the model once."""
        num_rows, length = batch.tokens.shape
        pairs = num_rows * causal_pairs(length)
        parts = fields.pop("parts", 1)
        return Program(
            title=title,
            mesh=self.mesh,
            function=function,
            arguments=(params, batch),
            num_tokens=num_rows * length,
            model_flops=self.forward_flops(num_rows * length, pairs),
            product_flops=self.product_flops(pairs, parts),
            visits=self.visits(length),
            **fields,
        )

    def forward_flops(self, num_tokens: int, pairs: int) -> int:
        """Returns model FLOPs of a forward pass, adapters left out."""
        return self.config.replace(lora=None).train_flops(num_tokens, pairs) // 3

    def product_flops(self, pairs: int, parts: int = 1) -> int:
        """Returns FLOPs of one of the products of attention over `pairs` in equal parts."""
        return 2 * self.config.num_heads * self.config.head_dim * pairs // parts

    def visits(self, length: int) -> float:
        """Returns how many key blocks a query block of blockwise attention sees on average in a causal row."""
        _, key_block = block_sizes(length, length, self.config.head_dim)
        return (-(-length // key_block) + 1) / 2


def causal_pairs(length: int) -> int:
    """Returns how many (query, key) pairs a causal row has."""
    return length * (length + 1) // 2


def without(tree: dict[str, Any], *names: str) -> dict[str, Any]:
    """Returns the dict without some names."""
    return {key: value for key, value in tree.items() if key not in names}
