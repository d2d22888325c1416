"""Answers a prompt, or every prompt of a file, with a model folder (Hugging Face or converted).

One prompt is answered on the terminal while it is drawn, the thought in another colour than the solution:

    phi4r generate MODEL "What is 7 * 6?"
    phi4r generate MODEL "What is 7 * 6?" --temperature=0 --max_tokens=65536 --rope=yarn --rope_factor=2

Several samples vote: answers that are mathematically equivalent count together. With a reference the verifier says
which sample is best:

    phi4r generate MODEL "What is 7 * 6?" --num_samples=16
    phi4r generate MODEL "What is 7 * 6?" --num_samples=16 --reference=42

A file has one prompt a line or, as .jsonl, rows {"prompt": ..., "answer": ...} of which `answer` is the reference and
may be left out. The results are JSON lines. A run that was interrupted goes on where it stopped:

    phi4r generate MODEL --file=problems.jsonl --num_samples=8 --output=answers.jsonl

The first start compiles for a minute or so; the programs are kept in ~/.cache/phi4r, or where
JAX_COMPILATION_CACHE_DIR says.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from phi4r.errors import UserError

if TYPE_CHECKING:
    from phi4r.evals.answer_file import AnswerFile
    from phi4r.evals.answers import Answer
    from phi4r.evals.decoding import DecodingSettings
    from phi4r.evals.questions import Question
    from phi4r.evals.voting import Selector
    from phi4r.sampling import SamplerSettings
    from phi4r.sampling.generator import Completion, SamplerGenerator
    from phi4r.text.chat import Chat
    from phi4r.verifiers.verdict import Verifier

NUM_SLOTS = 32
PROMPT_STEP = 64
LIVE_BURST = 4  # decode steps between two looks at what was drawn, where somebody is watching


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("model", help="folder of the model, with its tokenizer")
    parser.add_argument("prompt", nargs="?", help="what the user says; or give --file")
    parser.add_argument("--file", help="prompts, one a line, or a .jsonl file with a `prompt` in each row")
    parser.add_argument("--output", help="a file of JSON lines, one for every prompt (default: the terminal)")
    answers = parser.add_argument_group("choice among answers")
    answers.add_argument("--num_samples", type=int, default=1, help="answers to each prompt (default 1); more vote")
    answers.add_argument("--reference", help="the right answer to PROMPT; a verifier then judges every sample")
    answers.add_argument("--verifier", help="math (default), integer, or module:Class of your own, for best-of-N")
    decoding = parser.add_argument_group("decoding")
    decoding.add_argument("--temperature", type=float, default=0.8, help="0 is greedy (default 0.8)")
    decoding.add_argument("--top_p", type=float, default=0.95, help="nucleus (default 0.95; 1 for all)")
    decoding.add_argument("--top_k", type=int, default=50, help="(default 50; 0 for all)")
    decoding.add_argument("--min_p", type=float, default=0.0, help="share of the likeliest token's probability")
    decoding.add_argument("--max_tokens", type=int, default=4096, help="limit of an answer (default 4096)")
    decoding.add_argument("--max_thought", type=int, help="tokens after which an open thought is closed by force")
    decoding.add_argument("--stop", action="append", default=[], help="a string that ends an answer; may be repeated")
    decoding.add_argument("--seed", type=int, default=0, help="the same seed gives the same answers (default 0)")
    decoding.add_argument(
        "--rope",
        choices=("stored", "none", "linear", "ntk", "yarn"),
        default="stored",
        help="how to go past the positions that the model was made for (default: as its config.json says)",
    )
    decoding.add_argument("--rope_factor", type=float, default=1.0, help="with --rope: how many times these positions")
    engine = parser.add_argument_group("engine")
    engine.add_argument("--dtype", choices=("float32", "bfloat16"), help="of weights and cache (default: as stored)")
    engine.add_argument("--weights", choices=("float", "int8"), default="float", help="int8 is faster and not exact")
    engine.add_argument("--cache", choices=("float", "int8"), default="float", help="int8 is smaller and not exact")
    engine.add_argument(
        "--draft_tokens", type=int, default=0, help="guesses a step where few answers are left (default 0); exact"
    )
    engine.add_argument("--num_slots", type=int, default=NUM_SLOTS, help="answers at a time (default %(default)s)")
    engine.add_argument("--cache_gib", type=float, help="memory for keys and values (default: by what is free)")
    engine.add_argument("--prompt_length", type=int, help="room for prompts in tokens (default: by the longest one)")


def run(args: argparse.Namespace) -> None:
    """Loads the model, samples, and shows or writes the answers."""
    questions = _questions(args)
    decoding = _decoding(args)

    from phi4r.checkpoint.release import load_model
    from phi4r.evals.answer_file import AnswerFile
    from phi4r.evals.loading import make_generator
    from phi4r.evals.provenance import model_provenance
    from phi4r.evals.voting import Selector
    from phi4r.model.rope_scaling import RopeSettings
    from phi4r.text.chat import load_chat
    from phi4r.text.tokenizer import END_THINK
    from phi4r.verifiers.pool import VerifierPool

    output = AnswerFile(args.output) if args.output else None
    rope = RopeSettings(args.rope, args.rope_factor)
    chat = load_chat(args.model)
    decoding.end_think_id(chat.tokenizer)
    thinking = END_THINK in chat.tokenizer.special_tokens
    verifier = _verifier(args.verifier or "math", thinking=thinking)
    settings = _sampler_settings(args, chat, questions)
    _keep_compiled_programs()
    loaded = load_model(args.model, dtype=args.dtype)
    if output is not None:
        model = model_provenance(loaded.folder, loaded.params)
        done = output.begin(_protocol(args, questions, decoding, model))
    generator = make_generator(loaded, chat, sampler=settings, decoding=decoding, rope=rope)
    del loaded  # the generator has weights of its own
    with VerifierPool() as pool:
        selector = Selector(verifier, pool, thinking)
        if output is not None:
            todo = [question for question in questions if question.number not in done]
            _write(generator, todo, selector, args, output, num_done=len(done))
            return
        try:
            _show(generator, questions, selector, args)
        except BrokenPipeError:  # whoever reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show(generator: "SamplerGenerator", questions: "Sequence[Question]", selector: "Selector", args) -> None:
    """Writes answers to standard output, the first unfinished one while it is drawn."""
    from phi4r.evals.answers import answer_questions
    from phi4r.text.streaming import StopStrings
    from phi4r.text.terminal import ResponseWriter

    count = args.num_samples
    titles = [f"> {q.prompt}\n" if args.file and not sample else "" for q in questions for sample in range(count)]
    writer = ResponseWriter(titles, StopStrings(generator.chat.tokenizer, generator.stop), sys.stdout)

    def finish(row: int, sample: "Completion", answer: "Answer | None") -> None:
        name = f"sample {row % count + 1} of {count}: " if count > 1 else ""
        writer.note(row, f"[{name}{sample.num_tokens} tokens, {sample.finish_reason}]\n")
        if answer is not None:
            last = row - row % count + count - 1
            writer.note(last, answer.summary() + ("\n" if args.file else ""))
        writer.finish(row)

    try:
        answer_questions(
            generator, questions, selector, num_samples=count, seed=args.seed, on_tokens=writer.add, on_sample=finish
        )
    finally:
        writer.close()


def _write(generator, questions, selector, args, output: "AnswerFile", *, num_done: int) -> None:
    """Writes answers to a file, with a line of progress."""
    from phi4r.evals.answers import answer_questions
    from phi4r.metrics.progress import Progress

    count = args.num_samples
    finished, num_tokens = num_done * count, 0

    def count_tokens(row: int, tokens: list[int]) -> None:
        nonlocal num_tokens
        num_tokens += len(tokens)
        progress.update(finished, tokens=num_tokens)

    def finish(row: int, sample: "Completion", answer: "Answer | None") -> None:
        nonlocal finished
        finished += 1
        if answer is not None:
            output.add(answer.row())
        progress.update(finished, tokens=num_tokens)

    try:
        with Progress("generate", total=finished + len(questions) * count) as progress:
            progress.update(finished)
            answer_questions(
                generator,
                questions,
                selector,
                num_samples=count,
                seed=args.seed,
                on_tokens=count_tokens,
                on_sample=finish,
            )
    except KeyboardInterrupt:
        print(f"Kept in {output.partial}; the same command goes on from there.", file=sys.stderr)
        raise
    output.finish()
    print(f"Wrote {output.path}.", file=sys.stderr)


def _questions(args: argparse.Namespace) -> "list[Question]":
    """Returns the prompts of the command line or of the file."""
    from phi4r.evals.questions import Question, read_questions

    if (args.prompt is None) == (args.file is None):
        raise UserError("give a prompt or --file, and not both.")
    if args.file is None:
        if not args.prompt.strip():
            raise UserError("the prompt is empty; say what is to be answered.")
        questions = [Question(0, args.prompt, args.reference)]
    elif args.reference is not None:
        raise UserError("--reference belongs to one prompt; give a .jsonl file whose rows have an 'answer'.")
    else:
        questions = read_questions(args.file)
    if args.verifier and all(question.reference is None for question in questions):
        raise UserError("--verifier compares with a reference; give --reference, or a .jsonl file with an 'answer'.")
    return questions


def _decoding(args: argparse.Namespace) -> "DecodingSettings":
    """Returns how answers are decoded, checked."""
    from phi4r.evals.decoding import DecodingSettings

    for name in ("num_samples", "max_tokens", "num_slots", "prompt_length"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name}={value} must be at least 1.")
    names = ("temperature", "top_p", "top_k", "min_p", "max_tokens", "max_thought")
    return DecodingSettings(**{name: getattr(args, name) for name in names}, stop=tuple(args.stop))


def _sampler_settings(args: argparse.Namespace, chat: "Chat", questions: "Sequence[Question]") -> "SamplerSettings":
    """Returns the shapes of the sampler, with a cache for which there is memory.

    Raises:
      UserError: for a prompt that is too long, or a cache that cannot hold one answer of full length.
    """
    import jax.numpy as jnp

    from phi4r.checkpoint.hf_files import CONFIG_FILE, parse_config, read_json
    from phi4r.evals.loading import cache_bytes
    from phi4r.sampling import SamplerSettings

    longest = max(len(chat.prompt_ids(question.conversation)) for question in questions)
    # In steps, so that another prompt finds the compiled programs of the last one.
    prompt_length = args.prompt_length or -(-longest // PROMPT_STEP) * PROMPT_STEP
    if longest > prompt_length:
        raise UserError(f"the longest prompt has {longest} tokens; raise --prompt_length={prompt_length} to that.")
    folder = pathlib.Path(args.model)
    hf_config = read_json(folder / CONFIG_FILE)
    config = parse_config(hf_config, folder)
    itemsize = jnp.dtype(args.dtype or hf_config.get("torch_dtype") or hf_config.get("dtype") or "float32").itemsize
    room = cache_bytes(config, itemsize) if args.cache_gib is None else args.cache_gib * 2**30
    settings = SamplerSettings(
        prompt_length,
        args.max_tokens,
        num_slots=args.num_slots,
        cache_tokens=max(int(room / config.kv_cache_bytes(1, itemsize, args.cache)), 0),
        draft_tokens=args.draft_tokens,
        weights=args.weights,
        cache=args.cache,
        **({"burst": LIVE_BURST} if args.file is None and sys.stdout.isatty() else {}),
    )
    needed = prompt_length + args.max_tokens + 3 * settings.page_size
    if settings.cache_tokens < needed:
        size = config.kv_cache_bytes(needed, itemsize, args.cache)
        raise UserError(
            f"keys and values of one answer of full length take {size / 2**30:.3g} GiB, and there is room for "
            f"{room / 2**30:.3g}; lower --max_tokens, or set --cache_gib higher."
        )
    return settings


def _keep_compiled_programs() -> None:
    """Keeps them for the next start, which then takes seconds: compiling takes longer than a short answer."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "phi4r", "compiled"))


def _verifier(name: str, *, thinking: bool) -> "Verifier":
    """Returns the verifier of --verifier."""
    from phi4r.verifiers.exact import IntegerVerifier
    from phi4r.verifiers.math import MathVerifier
    from phi4r.verifiers.specification import rebuild, specification

    known = {"math": MathVerifier, "integer": IntegerVerifier}
    if name in known:
        return known[name](thinking=thinking)
    try:
        verifier = rebuild({"type": name, "fields": {}})
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"--verifier={name} cannot be loaded ({error}); write math, integer, or module:Class of a frozen dataclass "
            "on the import path."
        ) from error
    specification(verifier)
    return verifier


def _protocol(
    args: argparse.Namespace, questions: "Sequence[Question]", decoding: "DecodingSettings", model: dict[str, str]
) -> dict[str, Any]:
    """Returns all that the answers depend on, as JSON values."""
    asked = json.dumps([dataclasses.astuple(question) for question in questions])
    names = ("num_samples", "seed", "verifier", "rope", "rope_factor", "dtype", "weights", "cache")
    return {
        "model": model,
        "prompts": hashlib.sha256(asked.encode()).hexdigest()[:16],
        "decoding": dataclasses.asdict(decoding),
        **{name: getattr(args, name) for name in names},
    }
