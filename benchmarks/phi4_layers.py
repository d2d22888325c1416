"""Train step of a few layers of Phi-4's shape: tokens/s, causal MFU and peak memory, beside transformers with PyTorch.

    python -m benchmarks.phi4_layers --lengths 4096 16384 32768 --layers 2 4                  # on a GPU or a TPU
    python -m benchmarks.phi4_layers --lengths 1024 --layers 1 2 --vocab=8192 --dtype=float32 # on a CPU

A step is forward, backward and AdamW on one packed row, float32 parameters and moments on both sides. Two numbers of
layers give the time of one layer, and from it the figure of all 40, which is extrapolated and says so. MFU counts
model FLOPs (`ModelConfig.train_flops`) over the pairs that the mask admits: other segments and recomputation count
nothing. The peer has the same shapes, its fastest attention (SDPA, causal), and checkpoints its layers where we do.
"""

import argparse
import gc
import statistics
from collections.abc import Callable

import jax
import numpy as np

from benchmarks.timing import time_interleaved
from phi4r.metrics.throughput import peak_flops, peak_memory_gib
from phi4r.model.config import PHI4_REASONING, ModelConfig
from phi4r.model.inputs import TokenBatch, make_token_batch
from phi4r.model.transformer import Transformer, init_params
from phi4r.train.losses import make_sft_loss
from phi4r.train.optim import OptimizerSettings, make_optimizer
from phi4r.train.state import create_state
from phi4r.train.step import make_update_fn
from phi4r.train.step_log import step_work


def make_phi4r(config: ModelConfig, batch: TokenBatch) -> Callable[[], float]:
    """Returns a function that takes one step of ours and gives its loss."""
    optimizer, _ = make_optimizer(OptimizerSettings(warmup_steps=0, schedule="constant"), num_steps=10**6)
    params = jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))
    holder = [create_state(params, optimizer)]
    update_fn = make_update_fn(make_sft_loss(Transformer(config), chunk_size=1024), optimizer)
    batch = jax.device_put(batch)

    def step() -> float:
        holder[0], metrics = update_fn(holder[0], batch)
        return float(metrics["loss"])

    return step


def make_transformers(config: ModelConfig, batch: TokenBatch) -> Callable[[], float]:
    """Returns the same of transformers' Phi3ForCausalLM; segments are not told apart, which only adds work."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    no_tokens = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    fields = {**config.to_hf(), **no_tokens, "attn_implementation": "sdpa"}
    with torch.device(device):
        model = Phi3ForCausalLM(Phi3Config(**fields)).train()
    if config.remat != "none":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=device == "cuda")
    ids = torch.as_tensor(batch.tokens, device=device).long()
    dtype = {"bfloat16": torch.bfloat16, "float32": torch.float32}[config.dtype]

    def step() -> float:
        with torch.autocast(device, dtype=dtype, enabled=dtype is not torch.float32):
            loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def packed_row(length: int, num_segments: int, vocab_size: int) -> TokenBatch:
    """Returns a row of random tokens in segments of equal length."""
    tokens = np.random.default_rng(0).integers(1, vocab_size, (1, length))
    segments = 1 + np.arange(length)[None] * num_segments // length
    return make_token_batch(tokens, segments, np.ones_like(tokens, bool))


def report(name: str, seconds: dict[int, float], batch: TokenBatch, config: ModelConfig) -> None:
    """Prints a line for each number of layers, and the extrapolation to 40."""
    (few, many), length = sorted(seconds), batch.tokens.shape[1]
    a_layer = (seconds[many] - seconds[few]) / (many - few)
    whole = {**seconds, 40: seconds[many] + (40 - many) * a_layer}
    peak = peak_flops(jax.devices()[0].device_kind)
    for layers, s in whole.items():
        flops = step_work(batch.segment_ids, config.replace(num_layers=layers))["flops"]
        mfu = "" if peak is None else f", MFU {flops / s / peak:.1%}"
        label = " (extrapolated)" if layers == 40 else ""
        print(f"{name:14s} {length:6d} tokens, {layers:2d} layers: {s:8.3f} s, {length / s:9.0f} tokens/s{mfu}{label}")


def main() -> None:
    """Runs every length and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096], help="tokens of the row")
    parser.add_argument("--layers", type=int, nargs=2, default=[2, 4], help="two numbers of layers")
    parser.add_argument("--segments", type=int, default=1, help="packed segments in the row")
    parser.add_argument("--vocab", type=int, default=PHI4_REASONING.vocab_size, help="rows of the embedding")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of activations")
    parser.add_argument("--remat", default="full", help="none, dots, attention, full or offload")
    parser.add_argument("--attention", default="auto", help="auto, dense, blockwise, splash or triton")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps of each side")
    parser.add_argument("--no-peer", action="store_true", help="leave transformers out")
    args = parser.parse_args()
    sides = {"phi4r": make_phi4r} | ({} if args.no_peer else {"transformers": make_transformers})
    for length in args.lengths:
        batch = packed_row(length, args.segments, args.vocab)
        seconds: dict[str, dict[int, float]] = {name: {} for name in sides}
        for layers in sorted(args.layers):
            config = PHI4_REASONING.replace(
                num_layers=layers, vocab_size=args.vocab, dtype=args.dtype, remat=args.remat, attention=args.attention
            )
            for name, make in sides.items():  # one after the other: both would not fit together
                (times,) = time_interleaved({name: make(config, batch)}, repeats=args.repeats).values()
                seconds[name][layers] = statistics.median(times)
                gc.collect()
        for name in sides:
            report(name, seconds[name], batch, config)
        if (memory := peak_memory_gib(jax.devices())) is not None:
            print(f"phi4r's peak memory so far: {memory:.1f} GiB")


if __name__ == "__main__":
    main()
