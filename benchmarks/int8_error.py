"""What int8 weights and an int8 cache do to a sampler's log-probabilities, on SmolLM2-135M.

    python -m benchmarks.int8_error

The float32 model answers prompts at temperature 1. Then each variant scores every drawn token, through pages and in
chunks as the sampler does: by how much its log-probability differs from float32's, the KL divergence of the whole
distribution, and how often the most likely token is another. bfloat16 stands beside it as the error that a run in
bfloat16 has anyway. At the end the variants answer greedily, and the tokens are counted up to the first that differs
from float32's.
"""

import argparse
import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.generate_vs_transformers import DEFAULT_FOLDER, make_prompts
from benchmarks.smollm2 import write_smollm2_folder
from phi4r.checkpoint.release import load_hf_folder
from phi4r.model.config import PHI4, ModelConfig
from phi4r.model.inputs import segment_positions
from phi4r.model.int8 import DecodeCache
from phi4r.model.kv_cache import Pages, empty_pages, open_cache, write_pages
from phi4r.model.layouts import unroll_params
from phi4r.model.transformer import Transformer, unembed
from phi4r.sampling import Sampler, SamplerSettings, Samples, SamplingParams
from phi4r.typing import Array, Params

PROMPT_LENGTH = 48
PAGE_SIZE = 16
CHUNK = 48  # tokens that go through the model at a time; those before them are read from pages
END = 2  # <|im_end|>


class Variant(NamedTuple):
    """A way to compute the policy."""

    config: ModelConfig
    unrolled: Params
    cache: DecodeCache = "float"


def make_variants(config: ModelConfig, params: Params) -> dict[str, Variant]:
    """Returns the variants by name, float32 first."""

    def unroll(config: ModelConfig, weights: str) -> Params:
        return jax.jit(functools.partial(unroll_params, config=config, weights=weights))(params)

    narrow = config.replace(dtype="bfloat16", param_dtype="bfloat16")
    whole, small = unroll(config, "float"), unroll(config, "int8")
    whole_narrow, small_narrow = unroll(narrow, "float"), unroll(narrow, "int8")
    return {
        "float32": Variant(config, whole),
        "int8 cache": Variant(config, whole, "int8"),
        "int8 weights": Variant(config, small),
        "int8 weights but embedding and head": Variant(config, {**small, "embedding": whole["embedding"]}),
        "int8 weights and cache": Variant(config, small, "int8"),
        "bfloat16": Variant(narrow, whole_narrow),
        "bfloat16, int8 cache": Variant(narrow, whole_narrow, "int8"),
        "bfloat16, int8 weights": Variant(narrow, small_narrow),
        "bfloat16, int8 weights and cache": Variant(narrow, small_narrow, "int8"),
    }


def next_logprobs(variant: Variant, tokens: Array, segment_ids: Array) -> Array:
    """Returns the log-probabilities of every token after each of one row; [S V] float32."""
    num_pages = -(-len(tokens) // PAGE_SIZE)
    pages = empty_pages(variant.config, num_pages=num_pages + 1, page_size=PAGE_SIZE, cache=variant.cache)
    rows = tokens[None], segment_ids[None], segment_positions(segment_ids[None])
    logprobs = []
    for start in range(0, len(tokens), CHUNK):
        seen = np.sum(rows[1][:, :start] > 0, axis=1, dtype=np.int32)
        chunk = tuple(x[:, start : start + CHUNK] for x in rows)
        found, pages = run_chunk(variant.config, variant.unrolled, pages, seen, chunk)
        logprobs.append(found)
    return jnp.concatenate(logprobs)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def run_chunk(
    config: ModelConfig, unrolled: Params, pages: Pages, seen: Array, rows: tuple[Array, ...]
) -> tuple[Array, Pages]:
    """Returns log-probabilities [C V] after the tokens of a chunk, and the pages of the one row with it."""
    num_pages = jax.tree.leaves(pages)[0].shape[0] - 1  # without page 0
    table = 1 + jnp.arange(num_pages, dtype=jnp.int32)[None]
    cache = open_cache(pages, table, seen, columns=rows[0].shape[1], longest=num_pages * PAGE_SIZE)
    hidden, cache = Transformer(config, unrolled=True).apply({"params": unrolled}, *rows, cache)
    return jax.nn.log_softmax(unembed(hidden[0], unrolled)), write_pages(cache)


@jax.jit
def compare_row(reference: Array, other: Array, targets: Array) -> tuple[Array, Array, Array]:
    """Returns for every token of a row: change of the drawn one's log-probability, KL, whether the best is another."""
    drawn = jnp.take_along_axis(other - reference, targets[:, None], axis=-1)[:, 0]
    divergence = jnp.sum(jnp.exp(reference) * (reference - other), axis=-1)
    return drawn, divergence, jnp.argmax(reference, -1) != jnp.argmax(other, -1)


def measure(variants: dict[str, Variant], samples: Samples) -> dict[str, list[np.ndarray]]:
    """Returns drawn change, KL and disagreement of all drawn tokens, by variant."""
    found: dict[str, list[list[np.ndarray]]] = {}
    rows = zip(samples.tokens, samples.segment_ids, samples.response_mask, strict=True)
    for tokens, segments, drawn in rows:
        scored = {name: next_logprobs(variant, tokens, segments) for name, variant in variants.items()}
        reference = scored.pop("float32")
        for name, other in scored.items():
            figures = compare_row(reference[:-1], other[:-1], tokens[1:])
            found.setdefault(name, []).append([np.asarray(figure)[drawn[1:]] for figure in figures])
    return {name: [np.concatenate(parts) for parts in zip(*rows, strict=True)] for name, rows in found.items()}


def print_table(figures: dict[str, list[np.ndarray]]) -> None:
    """Prints a line for each variant; log-probabilities in nats."""
    columns = ("mean", "median", "90%", "99%", "max", "mean signed", "mean KL", "other best")
    print(f"{'|change of log-prob|':36s}" + "".join(f"{name:>13s}" for name in columns))
    for name, (change, divergence, other_best) in figures.items():
        size = np.abs(change)
        values = (size.mean(), *np.quantile(size, (0.5, 0.9, 0.99)), size.max(), change.mean(), divergence.mean())
        print(f"{name:36s}" + "".join(f"{value:13.5f}" for value in values) + f"{other_best.mean():13.2%}")


def print_agreement(greedy: dict[str, Samples]) -> None:
    """Prints for each variant how many tokens of its greedy answers come before the first that is not float32's."""
    rows = {name: np.where(found.response_mask, found.tokens, -1) for name, found in greedy.items()}
    reference = rows.pop("float32")
    in_answer = reference >= 0
    for name, other in rows.items():
        same = np.logical_and.accumulate((other == reference) | (reference < 0), axis=1) & in_answer
        agreeing, length = same.sum(axis=1).mean(), in_answer.sum(axis=1).mean()
        print(f"{name:36s} greedy answers agree for {agreeing:.1f} of {length:.1f} tokens")


def print_bytes(config: ModelConfig) -> None:
    """Prints what a token takes in a cache of each kind."""
    for name, shape in ("SmolLM2-135M", config), ("phi-4", PHI4):
        sizes = shape.kv_cache_bytes(1, 4), shape.kv_cache_bytes(1, 2), shape.kv_cache_bytes(1, cache="int8")
        text = "float32 {:,}, bfloat16 {:,}, int8 {:,}".format(*sizes)
        print(f"bytes of a token in the cache of {name}: {text}: {sizes[2] / sizes[1]:.3f} of bfloat16")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=16, help="answers that are scored (default 16)")
    parser.add_argument("--tokens", type=int, default=96, help="the most tokens of an answer (default 96)")
    parser.add_argument("--folder", type=pathlib.Path, default=DEFAULT_FOLDER, help="where the model is kept")
    args = parser.parse_args()
    config, params = load_hf_folder(write_smollm2_folder(args.folder))
    variants = make_variants(config, params)
    prompts = make_prompts(args.folder, batch=args.prompts, length=PROMPT_LENGTH)

    def answer(variant: Variant, temperature: float) -> Samples:
        settings = SamplerSettings(PROMPT_LENGTH, args.tokens, cache=variant.cache)
        sampler = Sampler(variant.config, settings, eos_ids=[END], pad_id=END)
        sampling = SamplingParams(temperature=temperature)
        return sampler.sample(variant.unrolled, prompts, jax.random.key(0), sampling=sampling)

    print_bytes(config)
    samples = answer(variants["float32"], 1.0)
    print(f"{int(samples.response_mask.sum())} tokens drawn at temperature 1 after {args.prompts} prompts")
    print_table(measure(variants, samples))
    in_float32 = {name: variant for name, variant in variants.items() if not name.startswith("bfloat16")}
    print_agreement({name: answer(variant, 0.0) for name, variant in in_float32.items()})


if __name__ == "__main__":
    main()
