"""Greedy generation of SmolLM2-135M in float32 against transformers, on the same CPU with the same weights.

    python -m benchmarks.generate_vs_transformers --batch=1 --tokens=128

Both sides get the same prompts and have to produce the same token ids; prefill is part of the time. Loading and
compilation are not. Close other programs: the comparison is of medians of interleaved runs, yet a core that is taken
away hurts one side more than the other.
"""

import argparse
import pathlib
from collections.abc import Callable

import jax
import numpy as np

from benchmarks.smollm2 import write_smollm2_folder
from benchmarks.timing import print_table, time_interleaved
from phi4r.checkpoint.release import load_hf_folder
from phi4r.sampling.logits import SamplingParams
from phi4r.sampling.sampler import Sampler, SamplerSettings

TOPICS = ("tides", "bread", "bridges", "whales", "printing", "glaciers", "violins", "chess")
QUESTIONS = ("What should a child know about {}?", "Tell a story about {}.", "List facts about {}.", "Why study {}?")
DEFAULT_FOLDER = pathlib.Path("~/.cache/phi4r/smollm2-135m").expanduser()


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


def make_transformers(folder: pathlib.Path, prompts: list[list[int]], tokens: int) -> Callable[[], np.ndarray]:
    """Returns a function that generates `tokens` tokens for every prompt with transformers; [B tokens] ids."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None  # every row runs to the end
    ids = torch.as_tensor(prompts)
    mask = torch.ones_like(ids)

    def generate() -> np.ndarray:
        with torch.inference_mode():
            whole = model.generate(ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False)
        return whole[:, ids.shape[1] :].numpy()

    return generate


def make_phi4r(folder: pathlib.Path, prompts: list[list[int]], tokens: int) -> Callable[[], np.ndarray]:
    """Returns the same of our sampler."""
    config, params = load_hf_folder(folder)
    settings = SamplerSettings(prompt_length=len(prompts[0]), max_response=tokens)
    sampler = Sampler(config, settings, eos_ids=(), pad_id=0)
    unrolled = jax.block_until_ready(sampler.unroll(params))
    del params
    greedy = SamplingParams(temperature=0.0)

    def generate() -> np.ndarray:
        samples = sampler.sample(unrolled, prompts, jax.random.key(0), sampling=greedy)
        return samples.tokens[:, len(prompts[0]) :]

    return generate


def main() -> None:
    """Runs the comparison and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1, help="rows generated together")
    parser.add_argument("--tokens", type=int, default=128, help="new tokens of each row")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of each prompt")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each side")
    parser.add_argument("--folder", type=pathlib.Path, default=DEFAULT_FOLDER, help="where the model is kept")
    args = parser.parse_args()
    folder = write_smollm2_folder(args.folder)
    prompts = make_prompts(folder, batch=args.batch, length=args.prompt)
    sides = {
        "transformers": make_transformers(folder, prompts, args.tokens),
        "phi4r": make_phi4r(folder, prompts, args.tokens),
    }
    produced = {name: generate() for name, generate in sides.items()}
    np.testing.assert_array_equal(produced["phi4r"], produced["transformers"], "greedy token ids differ")
    seconds = time_interleaved(sides, repeats=args.repeats)
    title = f"greedy generation, batch {args.batch}, {args.prompt} + {args.tokens} tokens, same ids"
    print_table(title, seconds, tokens=args.batch * args.tokens, baseline="transformers")


if __name__ == "__main__":
    main()
