"""Answers a prompt, or every line of a file, with a model folder (Hugging Face or converted).

phi4r generate runs/quickstart/hf "chain 7 +3 *9 -4 ="
phi4r generate MODEL --file=prompts.txt --num_samples=4 --temperature=0.8 --max_tokens=4096
"""

import argparse
import pathlib
import sys

from phi4r.errors import UserError

THOUGHT_COLOUR, PLAIN = "\033[2;36m", "\033[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("model", help="folder of the model, with its tokenizer")
    parser.add_argument("prompt", nargs="?", help="what the user says; or give --file")
    parser.add_argument("--file", help="a text file with one prompt a line")
    parser.add_argument("--num_samples", type=int, default=1, help="answers to each prompt (default 1)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 is greedy (default 0.8)")
    parser.add_argument("--top_p", type=float, default=0.95, help="nucleus (default 0.95; 1 for all)")
    parser.add_argument("--top_k", type=int, default=50, help="(default 50; 0 for all)")
    parser.add_argument("--max_tokens", type=int, default=1024, help="limit of an answer (default 1024)")
    parser.add_argument("--prompt_length", type=int, help="room for prompts (default: what the longest one needs)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same answers (default 0)")
    parser.add_argument(
        "--rope",
        choices=("stored", "none", "linear", "ntk", "yarn"),
        default="stored",
        help="how to go past the positions that the model was made for (default: as its config.json says)",
    )
    parser.add_argument("--rope_factor", type=float, default=1.0, help="with --rope: how many times these positions")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of weights and cache (default: as stored)")


def run(args: argparse.Namespace) -> None:
    """Loads the model, samples, and prints thought and solution of every answer."""
    prompts = _read_prompts(args)

    import jax

    from phi4r.checkpoint.release import load_model
    from phi4r.model.rope_scaling import RopeSettings
    from phi4r.sampling import Sampler, SamplerSettings, SamplingParams
    from phi4r.sampling.generator import SamplerGenerator
    from phi4r.text.chat import load_chat

    rope = RopeSettings(args.rope, args.rope_factor)
    model = load_model(args.model, dtype=args.dtype)
    chat = load_chat(model.folder)
    conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
    longest = max(len(chat.prompt_ids(conversation)) for conversation in conversations)
    settings = SamplerSettings(args.prompt_length or longest, args.max_tokens)
    config = model.config.with_rope(rope).for_length(settings.prompt_length + settings.max_response)
    sampler = Sampler(config, settings, eos_ids=[chat.tokenizer.eos_id], pad_id=chat.tokenizer.pad_id)
    generator = SamplerGenerator(
        sampler,
        jax.block_until_ready(sampler.unroll(model.params)),
        chat,
        SamplingParams(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p),
    )
    answers = generator(conversations, num_samples=args.num_samples, seed=args.seed)
    for prompt, completions in zip(prompts, answers, strict=True):
        print(f"> {prompt}")
        for completion in completions:
            print(_render(completion.text, colour=sys.stdout.isatty()))
            print(f"[{completion.num_tokens} tokens, {completion.finish_reason}]\n")


def _read_prompts(args: argparse.Namespace) -> list[str]:
    """Returns the prompts of the command line or of the file."""
    if (args.prompt is None) == (args.file is None):
        raise UserError("give a prompt or --file, and not both.")
    if args.num_samples < 1 or args.max_tokens < 1 or args.temperature < 0 or not 0 < args.top_p <= 1:
        raise UserError("num_samples and max_tokens are at least 1, temperature at least 0, top_p in (0, 1].")
    if args.prompt is not None:
        return [args.prompt]
    try:
        text = pathlib.Path(args.file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {args.file} ({error}); give a UTF-8 text file with one prompt a line.") from error
    prompts = [line for line in text.splitlines() if line.strip()]
    if not prompts:
        raise UserError(f"{args.file} has no prompts; write one a line.")
    return prompts


def _render(text: str, *, colour: bool) -> str:
    """Returns the answer with its thought in another colour, where the terminal has colours."""
    if not colour or "</think>" not in text:
        return text
    thought, end, solution = text.rpartition("</think>")
    return f"{THOUGHT_COLOUR}{thought}{end}{PLAIN}{solution}"
