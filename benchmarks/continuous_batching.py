"""Continuous batching against waves: the same requests, whose lengths follow the law of answers to AIME, on one model.

    python -m benchmarks.continuous_batching                    # 512 requests over 32 slots

Lengths are log-normal with a mean of 11,000 tokens, cut off at 31,000 (the paper's limit), divided by --scale. A wave
takes 32 requests and waits for the longest of them; continuous batching gives the slot of a finished one to the next.
The model is random, of --width and --layers; every request is drawn up to its length on both sides, with equal tokens.
"""

import argparse
import functools
import math
import time

import jax
import numpy as np

from phi4r.model.config import ModelConfig
from phi4r.model.transformer import init_params
from phi4r.sampling import Sampler, SamplerSettings

MEAN, SIGMA, CAP = 11_000, 0.75, 31_000  # of the lengths, in tokens


def draw_lengths(count: int, scale: int) -> np.ndarray:
    """Returns the lengths of responses, at least 1 token."""
    normal = np.random.default_rng(0).normal(math.log(MEAN) - SIGMA**2 / 2, SIGMA, count)
    return np.maximum(np.minimum(np.exp(normal), CAP) // scale, 1).astype(int)


def main() -> None:
    """Runs both sides in turn and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=512, help="responses to draw")
    parser.add_argument("--slots", type=int, default=32, help="sequences decoded at a time")
    parser.add_argument("--burst", type=int, default=16, help="decode steps between two looks of the host")
    parser.add_argument("--scale", type=int, default=32, help="by what lengths are divided")
    parser.add_argument("--width", type=int, default=256, help="of the model")
    parser.add_argument("--layers", type=int, default=4, help="of the model")
    args = parser.parse_args()
    lengths = draw_lengths(args.requests, args.scale)
    config = ModelConfig(
        vocab_size=2048,
        num_layers=args.layers,
        embed_dim=args.width,
        num_heads=args.width // 32,
        num_kv_heads=args.width // 64,
        head_dim=32,
        mlp_dim=3 * args.width,
        init_std=0.1,
    )
    params = jax.jit(functools.partial(init_params, config))(jax.random.key(0))
    settings = SamplerSettings(16, CAP // args.scale + 1, num_slots=args.slots, burst=args.burst)
    sampler, wave_sampler = (Sampler(config, settings, eos_ids=(), pad_id=0) for _ in range(2))
    wave_sampler.row_sizes = lambda slots: [slots]  # a wave does not shrink
    unrolled = jax.block_until_ready(sampler.unroll(params))
    prompts = np.random.default_rng(1).integers(1, config.vocab_size, (args.requests, 16)).tolist()
    key = jax.random.key(0)

    def continuous() -> np.ndarray:
        return sampler.sample(unrolled, prompts, key, limits=lengths.tolist()).tokens

    def waves() -> np.ndarray:
        parts = []
        for start in range(0, args.requests, args.slots):
            rows = range(start, min(start + args.slots, args.requests))
            chosen = [prompts[row] for row in rows], key
            samples = wave_sampler.sample(unrolled, *chosen, prompt_ids=rows, limits=lengths[rows].tolist())
            parts.append(samples.tokens)
            steps.append(len(rows) * lengths[rows].max())
        return np.concatenate(parts)

    sampler.sample(unrolled, prompts[: args.slots], key, limits=[2 * args.burst] * args.slots)  # compiles everything
    steps: list[int] = []
    tokens, seconds, shares = {}, {}, {}
    for name, run in (("waves", waves), ("continuous", continuous)):
        started = time.perf_counter()
        tokens[name] = run()
        seconds[name] = time.perf_counter() - started
    np.testing.assert_array_equal(tokens["waves"], tokens["continuous"], "the two sides drew other tokens")
    shares["waves"], shares["continuous"] = lengths.sum() / sum(steps), sampler.stats.slot_share
    print(f"{args.requests} requests of {lengths.sum()} tokens over {args.slots} slots, same tokens")
    print(f"{'':12s}{'seconds':>10s}{'tokens/s':>10s}{'useful slots':>14s}{'relative':>10s}")
    for name in tokens:
        rate, ratio = lengths.sum() / seconds[name], seconds["waves"] / seconds[name]
        print(f"{name:12s}{seconds[name]:10.1f}{rate:10.0f}{shares[name]:14.1%}{ratio:9.2f}x")
    print(f"host between two programs: {sampler.stats.host_s / sampler.stats.seconds:.1%} of the time")


if __name__ == "__main__":
    main()
