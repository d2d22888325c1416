"""Which parameters a run trains: all of them, or adapters on a frozen base.

Under `lora` the trained tree holds the adapters alone, in float32. So gradients, moments, checkpoints and donation
concern them and nothing else. The base is loaded once, in `model.param_dtype` or quantized, and goes into every program
as an argument. The policy is base and adapters joined; the reference policy of GRPO is the base itself.
"""

import dataclasses
import os

import jax
from jax.sharding import Mesh

from phi4r.checkpoint.release import load_model
from phi4r.model.config import ModelConfig
from phi4r.model.lora import GROUPS, Lora, Target, init_adapter, join_adapter, split_adapter
from phi4r.model.merge import merge_adapter
from phi4r.model.quantized import Quantization, abstract_quantized, quantize_base
from phi4r.train.setup import params_on_mesh
from phi4r.train.step import LossFn
from phi4r.typing import Params


@dataclasses.dataclass(frozen=True)
class LoraSettings:
    """Adapters in place of all parameters; not in the paper. Conventions are PEFT's.

    Attributes:
      rank: r of the adapters.
      alpha: numerator of their factor, alpha / rank.
      targets: what is adapted: "qkv", "o", "gate_up", "down", in PEFT `qkv_proj`, `o_proj`, ... of Phi-3.
      quantize_base: how the matrices of the base are held: "none" in `model.param_dtype`; "int8" or "nf4" in blocks of
        64 (`phi4r.model.quantized`).
    """

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[Target, ...] = tuple(GROUPS)
    quantize_base: Quantization = "none"

    @property
    def shape(self) -> Lora:
        """The shape of the adapters, for `ModelConfig.lora`."""
        return Lora(self.rank, self.alpha, self.targets)


class Parameters:
    """The parameters of a run in two parts: what is trained, and what stays as it was loaded.

    Attributes:
      config: of the policy, adapters included.
      frozen: constants of the update (`phi4r.train.step`): the base of the adapters, or nothing.
    """

    def __init__(
        self, folder: str | os.PathLike, config: ModelConfig, mesh: Mesh, lora: LoraSettings | None, *, seed: int
    ):
        """Allocates nothing.

        Args:
          folder: of the model to start from.
          config: its shape, with the numerics of training.
          mesh: where parameters go.
          lora: the adapters, or None to train everything.
          seed: of the adapters.
        """
        self.config = config if lora is None else config.replace(lora=lora.shape)
        self.frozen: tuple[Params, ...] = ()
        self._folder, self._mesh, self._lora, self._seed = folder, mesh, lora, seed

    @property
    def has_adapter(self) -> bool:
        """Whether adapters are trained, and not the model itself."""
        return self._lora is not None

    def abstract_trained(self) -> Params:
        """Returns the trained part as ShapeDtypeStructs on the mesh: what a checkpoint is restored into."""
        params = params_on_mesh(self.config, self._mesh)
        return params if self._lora is None else split_adapter(params)[1]

    def abstract_frozen(self) -> tuple[Params, ...]:
        """Returns the frozen part as ShapeDtypeStructs on the mesh."""
        if self._lora is None:
            return ()
        base = split_adapter(params_on_mesh(self.config, self._mesh))[0]
        return (base if self._lora.quantize_base == "none" else abstract_quantized(base, self._lora.quantize_base),)

    def load_frozen(self) -> None:
        """Loads the base of the adapters; does nothing without them."""
        if self._lora is None:
            return
        base = load_model(self._folder, config=self.config, mesh=self._mesh).params
        quantize = self._lora.quantize_base
        self.frozen = (base if quantize == "none" else quantize_base(base, quantize),)

    def initial(self) -> Params:
        """Returns the trained part before the first step; the caller owns its buffers."""
        if self._lora is None:
            return load_model(self._folder, config=self.config, mesh=self._mesh).params
        abstract = self.abstract_trained()
        shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
        draw = jax.jit(lambda key: init_adapter(abstract, key), out_shardings=shardings)
        return draw(jax.random.key(self._seed))

    def reference(self, initial: Params | None) -> Params:
        """Returns the policy that the run starts from, frozen, for a Transformer without adapters.

        Under adapters it is the base, without a second copy. Without them it is a copy in the dtype of activations,
        to which the model would cast it anyway.

        Args:
          initial: from `initial`, to be copied; None in a resumed run, which loads it.
        """
        if self._lora is not None:
            return self.frozen[0]
        config = self.config.replace(param_dtype=self.config.dtype)
        if initial is None:
            return load_model(self._folder, config=config, mesh=self._mesh).params
        shardings = jax.tree.map(lambda leaf: leaf.sharding, initial)
        cast = jax.jit(lambda params: jax.tree.map(lambda x: x.astype(config.dtype), params), out_shardings=shardings)
        return cast(initial)

    def policy(self, trained: Params) -> Params:
        """Returns all parameters as one tree; no array is copied."""
        return trained if self._lora is None else join_adapter(*self.frozen, trained)

    def policy_loss(self, loss_fn: LossFn) -> LossFn:
        """Returns the loss as a function of the trained part, the batch and `*frozen`."""
        if self._lora is None:
            return loss_fn
        return lambda trained, batch, base: loss_fn(join_adapter(base, trained), batch)

    def merged(self, trained: Params) -> Params:
        """Returns the parameters of a model without adapters: under `lora` a copy in the dtype of the base."""
        return trained if self._lora is None else merge_adapter(*self.frozen, trained, self.config)
