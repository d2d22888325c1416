"""Forward and backward pass of SmolLM2-135M in float32 against transformers, on the same CPU with the same weights.

    python -m benchmarks.train_step_vs_transformers --rows=4 --length=512

Both sides compute the mean negative log-likelihood of the same rows and the gradient of every parameter; loss and
gradient norm have to agree. Loading and compilation are not timed.
"""

import argparse
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.generate_vs_transformers import DEFAULT_FOLDER
from benchmarks.smollm2 import write_smollm2_folder
from benchmarks.timing import print_table, time_interleaved
from phi4r.checkpoint.release import load_hf_folder
from phi4r.model.inputs import make_token_batch
from phi4r.model.logprobs import token_logprobs
from phi4r.model.transformer import Transformer


def make_transformers(folder: pathlib.Path, tokens: np.ndarray) -> Callable[[], tuple[float, float]]:
    """Returns a function that gives loss and gradient norm with transformers."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    ids = torch.as_tensor(tokens)

    def step() -> tuple[float, float]:
        model.zero_grad(set_to_none=True)
        loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        norms = torch._foreach_norm([parameter.grad for parameter in model.parameters()])
        return loss.item(), torch.stack(norms).norm().item()

    return step


def make_phi4r(folder: pathlib.Path, tokens: np.ndarray, *, chunk_size: int) -> Callable[[], tuple[float, float]]:
    """Returns the same of our model and `token_logprobs`."""
    config, params = load_hf_folder(folder)
    model = Transformer(config)
    batch = make_token_batch(tokens, np.ones_like(tokens), np.ones_like(tokens, bool))

    def loss_fn(params, batch):
        logprobs, _ = token_logprobs(model, params, batch, chunk_size=chunk_size)
        return -jnp.sum(logprobs * batch.loss_mask) / jnp.sum(batch.loss_mask)

    @jax.jit
    def loss_and_grads(params, batch):
        loss, grads = jax.value_and_grad(loss_fn)(params, batch)
        norm = jnp.sqrt(sum(jnp.sum(grad**2) for grad in jax.tree.leaves(grads)))
        return loss, norm, grads

    def step() -> tuple[float, float]:
        loss, norm, _ = jax.block_until_ready(loss_and_grads(params, batch))
        return float(loss), float(norm)

    return step


def main() -> None:
    """Runs the comparison and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4, help="rows of the batch")
    parser.add_argument("--length", type=int, default=512, help="tokens of a row")
    parser.add_argument("--chunk-size", type=int, default=128, help="positions of a row whose logits exist together")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each side")
    parser.add_argument("--folder", type=pathlib.Path, default=DEFAULT_FOLDER, help="where the model is kept")
    args = parser.parse_args()
    folder = write_smollm2_folder(args.folder)
    tokens = np.random.default_rng(0).integers(17, 49152, (args.rows, args.length))
    sides = {
        "transformers": make_transformers(folder, tokens),
        "phi4r": make_phi4r(folder, tokens, chunk_size=args.chunk_size),
    }
    results = {name: step() for name, step in sides.items()}
    np.testing.assert_allclose(results["phi4r"], results["transformers"], rtol=1e-4, err_msg="loss, gradient norm")
    seconds = time_interleaved(sides, repeats=args.repeats)
    title = f"forward and backward, {args.rows} x {args.length} tokens, same loss and gradient norm"
    print_table(title, seconds, tokens=args.rows * args.length, baseline="transformers")


if __name__ == "__main__":
    main()
