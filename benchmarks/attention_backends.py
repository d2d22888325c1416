"""Attention forward and backward, every backend that the device has, on packed rows of Phi-4's heads.

    python -m benchmarks.attention_backends --lengths 4096 16384 32768 --segments 1 8     # on a GPU or a TPU
    python -m benchmarks.attention_backends --lengths 512 2048 --kv-heads=2 --dtype=float32   # on a CPU

FLOPs are those of the pairs that the mask admits, so a backend that skips the blocks of other segments keeps its rate
when a row is packed. The peer is PyTorch's SDPA: causal, and with a mask [T, T] where the row has several segments,
which is how packed rows are told apart there.
"""

import argparse
import statistics
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import time_interleaved
from phi4r.errors import UserError
from phi4r.model.attention import Tokens, attend
from phi4r.model.inputs import segment_positions


def make_phi4r(backend: str, inputs: list[np.ndarray], segments: np.ndarray) -> Callable[[], object]:
    """Returns a function that computes output and gradients with one of our backends.

    Raises:
      UserError: if the backend is not for this device.
    """
    where = Tokens(jnp.asarray(segments), jnp.asarray(segment_positions(segments)))

    def loss(inputs):
        out = attend(*inputs, where, where, backend=backend)
        return jnp.sum(out.astype(jnp.float32) ** 2)

    step = jax.jit(jax.value_and_grad(loss))
    arrays = [jnp.asarray(x) for x in inputs]
    step.lower(arrays)  # a backend refuses another device here
    return lambda: jax.block_until_ready(step(arrays))


def make_torch(inputs: list[np.ndarray], segments: np.ndarray) -> Callable[[], object]:
    """Returns the same with scaled_dot_product_attention."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    device = "cuda" if torch.cuda.is_available() else "cpu"
    query, key, value = (torch.as_tensor(np.asarray(x, np.float32), device=device) for x in inputs)
    query = query.flatten(2, 3).transpose(1, 2)  # [B N T H]
    dtype = torch.float32 if inputs[0].dtype == np.float32 else torch.bfloat16
    tensors = [x.to(dtype).contiguous().requires_grad_() for x in (query, key, value)]
    ids, packed = torch.as_tensor(segments, device=device), segments.max() > 1
    mask = ((ids[:, :, None] == ids[:, None, :]).tril()[:, None]) if packed else None

    def step() -> object:
        for tensor in tensors:
            tensor.grad = None
        out = scaled_dot_product_attention(*tensors, attn_mask=mask, is_causal=not packed, enable_gqa=True)
        (out.float() ** 2).sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        return tensors[0].grad

    return step


def main() -> None:
    """Runs every length and number of segments, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096], help="tokens of the row")
    parser.add_argument("--segments", type=int, nargs="+", default=[1, 8], help="packed segments in the row")
    parser.add_argument("--kv-heads", type=int, default=10, help="each with 4 query heads of 128 dimensions")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--backends", nargs="+", default=["dense", "blockwise", "splash", "triton", "torch"])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    on_cpu = jax.default_backend() == "cpu"
    for length in args.lengths:
        shapes = [(1, length, args.kv_heads, 4, 128)] + [(1, args.kv_heads, length, 128)] * 2
        rng = np.random.default_rng(0)
        inputs = [np.asarray(rng.standard_normal(shape), jnp.dtype(args.dtype)) for shape in shapes]
        for count in args.segments:
            segments = (1 + np.arange(length)[None] * count // length).astype(np.int32)
            competitors = {}
            for name in args.backends:
                if name in ("splash", "triton") and on_cpu:
                    continue  # interpreted there: right, and of no speed
                try:
                    make = make_torch if name == "torch" else lambda *given, name=name: make_phi4r(name, *given)
                    competitors[name] = make(inputs, segments)
                except UserError as error:
                    print(f"{name}: {error}")
            pairs = int((segment_positions(segments) + 1).sum(dtype=np.int64))
            flops = 12 * args.kv_heads * 4 * 128 * pairs
            for name, times in time_interleaved(competitors, repeats=args.repeats).items():
                s = statistics.median(times)
                rate = f"{s * 1e3:9.1f} ms {flops / s / 1e12:8.2f} TFLOP/s"
                print(f"{length:6d} tokens, {count:3d} segments, {name:10s} {rate}")


if __name__ == "__main__":
    main()
