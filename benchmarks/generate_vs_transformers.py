"""Greedy generation of SmolLM2-135M in float32 against transformers, on the same CPU with the same weights.

    python -m benchmarks.generate_vs_transformers --batch=1 --tokens=128
    python -m benchmarks.generate_vs_transformers --workload=unequal        # 128 requests, each with a limit of its own

Both sides get the same prompts and have to produce the same token ids; prefill is part of the time. Loading and
compilation are not. Close other programs: the comparison is of medians of interleaved runs, yet a core that is taken
away hurts one side more than the other.

With --workload=unequal the requests end where the answers to AIME would: at lengths of the log-normal law of
`benchmarks.continuous_batching`, divided by --scale. Nobody knows them beforehand, so `generate` of transformers takes
the requests in the order of arrival, --batch at a time, and each batch until its longest is done (a stopping criterion
says so for each row). Its continuous batching (`ContinuousBatchingManager`), with as many requests at a time, runs too.
"""

import argparse
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.continuous_batching import draw_lengths
from benchmarks.smollm2 import write_smollm2_folder
from benchmarks.timing import print_table, time_interleaved
from phi4r.checkpoint.release import load_hf_folder
from phi4r.sampling.logits import SamplingParams
from phi4r.sampling.sampler import Sampler, SamplerSettings

TOPICS = ("tides", "bread", "bridges", "whales", "printing", "glaciers", "violins", "chess")
QUESTIONS = ("What should a child know about {}?", "Tell a story about {}.", "List facts about {}.", "Why study {}?")
DEFAULT_FOLDER = pathlib.Path("~/.cache/phi4r/smollm2-135m").expanduser()
WARM_UP = 2  # tokens of each response that are generated before the clock starts

# Generates so many tokens for each prompt, and returns the tokens of each response.
Generate = Callable[[Sequence[int]], list[np.ndarray]]


def make_prompts(folder: pathlib.Path, *, batch: int, length: int) -> list[list[int]]:
    """Returns `batch` different prompts of exactly `length` tokens: a question, its tail repeated to fill."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    prompts = []
    for row in range(batch):
        question = QUESTIONS[row // len(TOPICS) % len(QUESTIONS)].format(TOPICS[row % len(TOPICS)])
        text = f"<|im_start|>user\n{row}. {question} {question}<|im_end|>\n<|im_start|>assistant\n"
        ids = tokenizer.encode(text).ids
        prompts.append((ids * (length // len(ids) + 1))[-length:])
    return prompts


def load_transformers(folder: pathlib.Path) -> Any:
    """Returns the model as transformers has it; no token ends a response."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    return model


def generate_in_batches(model: Any, prompts: list[list[int]], batch: int, limits: Sequence[int]) -> list[np.ndarray]:
    """Returns the first `limits` tokens of each response, from `generate` on `batch` requests at a time."""
    import torch

    produced = []
    for start in range(0, len(prompts), batch):
        ids = torch.as_tensor(prompts[start : start + batch])
        ends = ids.shape[1] + torch.as_tensor(limits[start : start + batch])

        def is_done(so_far: torch.Tensor, scores: Any, ends: torch.Tensor = ends, **unused) -> torch.Tensor:
            return so_far.shape[1] >= ends

        longest = int(ends.max()) - ids.shape[1]
        with torch.inference_mode():
            whole = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=longest,
                do_sample=False,
                stopping_criteria=[is_done],
            )
        produced += [row[ids.shape[1] : end].numpy() for row, end in zip(whole, ends.tolist(), strict=True)]
    return produced


def generate_continuously(model: Any, prompts: list[list[int]], batch: int, limits: Sequence[int]) -> list[np.ndarray]:
    """Returns the same from continuous batching of transformers, with at most `batch` requests at a time."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    page_size = 64
    pages = -(-(len(prompts[0]) + max(limits)) // page_size)
    settings = ContinuousBatchingConfig(
        page_size=page_size,
        num_blocks=(batch + 1) * pages,
        max_batch_tokens=8 * len(prompts[0]) + batch,  # eight prompts beside the sequences that decode
        max_requests_per_batch=batch,
        allow_block_sharing=False,  # the prompts begin alike for less than a page
    )
    greedy = GenerationConfig(do_sample=False, max_new_tokens=max(limits), eos_token_id=-1, pad_token_id=0)
    produced: dict[int, np.ndarray] = {}
    with model.continuous_batching_context_manager(
        generation_config=greedy, continuous_batching_config=settings, warmup=False
    ) as manager:
        for row, (prompt, limit) in enumerate(zip(prompts, limits, strict=True)):
            manager.add_request(prompt, request_id=str(row), max_new_tokens=int(limit), eos_token_id=-1)
        while len(produced) < len(prompts):
            result = manager.get_result(timeout=1)
            if result is not None and result.is_finished():
                produced[int(result.request_id)] = np.array(result.generated_tokens)
            elif result is None and not manager.is_running():
                raise RuntimeError("continuous batching of transformers has stopped")
    return [produced[row] for row in range(len(prompts))]


def make_phi4r(
    folder: pathlib.Path, prompts: list[list[int]], *, longest: int, num_slots: int, **settings: int
) -> Generate:
    """Returns the same of our sampler; no response may have more than `longest` tokens."""
    config, params = load_hf_folder(folder)
    shapes = SamplerSettings(len(prompts[0]), longest, num_slots=num_slots, **settings)
    sampler = Sampler(config, shapes, eos_ids=(), pad_id=0)
    unrolled = jax.block_until_ready(sampler.unroll(params))
    del params
    greedy = SamplingParams(temperature=0.0)

    def generate(limits: Sequence[int]) -> list[np.ndarray]:
        samples = sampler.sample(unrolled, prompts, jax.random.key(0), sampling=greedy, limits=list(limits))
        return [row[len(prompts[0]) :][:limit] for row, limit in zip(samples.tokens, limits, strict=True)]

    return generate


def time_checked(sides: dict[str, Generate], limits: Sequence[int], *, repeats: int) -> dict[str, list[float]]:
    """Returns the seconds of every run, after checking that all of them produced the same ids.

    To warm up, every side generates a few tokens of each response: that compiles all that there is to compile.
    """
    produced: dict[str, list[np.ndarray]] = {}

    def run(name: str) -> None:
        if name in produced:
            produced[name].append(np.concatenate(sides[name](limits)))
        else:
            produced[name] = []
            sides[name]([min(limit, WARM_UP) for limit in limits])

    seconds = time_interleaved({name: functools.partial(run, name) for name in sides}, repeats=repeats)
    reference, *_ = next(iter(produced.values()))
    for name, runs in produced.items():
        for ids in runs:
            np.testing.assert_array_equal(ids, reference, f"greedy token ids of {name} differ")
    return seconds


def main() -> None:
    """Runs the comparison and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=("equal", "unequal"), default="equal", help="lengths of the responses")
    parser.add_argument("--batch", type=int, help="rows generated together (default: 1; of unequal length 32)")
    parser.add_argument("--tokens", type=int, default=128, help="new tokens of each row of equal length")
    parser.add_argument("--requests", type=int, default=128, help="requests of unequal length")
    parser.add_argument("--scale", type=int, default=200, help="by what the lengths of AIME are divided")
    parser.add_argument("--slots", type=int, help="sequences that phi4r decodes at a time (default: --batch)")
    parser.add_argument("--draft_tokens", type=int, default=0, help="phi4r's guesses of a step (small batches)")
    parser.add_argument("--burst", type=int, default=32, help="phi4r's decode steps between two refills")
    parser.add_argument("--page_size", type=int, default=128, help="tokens of phi4r's pages")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of each prompt")
    parser.add_argument("--repeats", type=int, help="timed runs of each side (default: 5; of unequal length 1)")
    parser.add_argument("--folder", type=pathlib.Path, default=DEFAULT_FOLDER, help="where the model is kept")
    args = parser.parse_args()
    folder = write_smollm2_folder(args.folder)
    equal = args.workload == "equal"
    batch = args.batch or (1 if equal else 32)
    limits = [args.tokens] * batch if equal else draw_lengths(args.requests, args.scale).tolist()
    prompts = make_prompts(folder, batch=len(limits), length=args.prompt)
    model = load_transformers(folder)
    sides = {"transformers": functools.partial(generate_in_batches, model, prompts, batch)}
    if not equal:
        # A model of its own: the manager changes the attention of the one that it is given.
        apart = load_transformers(folder)
        sides["  continuous"] = functools.partial(generate_continuously, apart, prompts, batch)
    settings = {name: getattr(args, name) for name in ("burst", "page_size", "draft_tokens")}
    sides["phi4r"] = make_phi4r(folder, prompts, longest=max(limits), num_slots=args.slots or batch, **settings)
    seconds = time_checked(sides, limits, repeats=args.repeats or (5 if equal else 1))
    title = f"greedy generation, batch {batch}, {args.prompt} + {args.tokens} tokens, same ids"
    if not equal:
        title = (
            f"greedy generation, {len(limits)} requests, {batch} at a time, {args.prompt} + {min(limits)} to "
            f"{max(limits)} tokens (mean {np.mean(limits):.0f}), same ids"
        )
    print_table(title, seconds, tokens=sum(limits), baseline="transformers")


if __name__ == "__main__":
    main()
