"""Whole steps of GRPO (rollout, reward, update) against TRL's GRPOTrainer, on the same CPU in float32.

    python3 -m venv trl-venv && trl-venv/bin/pip install torch==2.13.0 && trl-venv/bin/pip install trl
    python -m benchmarks.grpo_vs_trl --python=trl-venv/bin/python

Both sides train the same random model on the same prompts: 8 problems, 8 responses each, at temperature 1, one update
with AdamW and no reference. The reward of a response is minus its length, so that groups have a spread; ours judges the
answers with the task's verifier as well, and writes its metrics. The end token has about the same probability at every
token, so lengths are geometric: most responses are short, and a few reach --max-response.

Both draw random tokens, each its own, so speed is that of response tokens; that both train the same policy is checked
by the mean entropy of those tokens. The first two steps are not counted. Ours are the seconds that `run_grpo` itself
logs, TRL's those between the two callbacks around a step; half of its steps come before ours, and half after.
TRL generates with `generate`, or with --continuous with the continuous batching of transformers.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
from typing import Any

import jax
import numpy as np

from benchmarks.peers import Peer
from phi4r.checkpoint.convert import hf_to_orbax, orbax_to_hf
from phi4r.checkpoint.release import save_hf_folder
from phi4r.errors import UserError
from phi4r.evals.specs import load_task
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import init_params
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.reward_parts import RewardPart
from phi4r.rl.rewards import RewardSettings
from phi4r.rl.train import GrpoRunSettings, run_grpo
from phi4r.sampling import SamplerSettings
from phi4r.text.chat import Chat, load_chat
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder
from phi4r.text.tokenizer import load_tokenizer
from phi4r.train.optim import OptimizerSettings
from phi4r.train.setup import ModelOverrides
from phi4r.typing import Params

TASK = "chains:train?num=512&min_ops=6&max_ops=7"
LEARNING_RATE = 1e-6  # so small that the lengths stay what they are
WARM_UP = 2  # steps that are not counted
SCRIPT = pathlib.Path(__file__).with_name("peer_trl.py")


def write_policy(folder: pathlib.Path, *, width: int, layers: int, mean_length: int) -> None:
    """Writes a random model with the quickstart's tokenizer: FOLDER/params for phi4r, FOLDER/hf for transformers."""
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), folder / "tokenizer")
    tokenizer = load_tokenizer(folder / "tokenizer")
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        num_layers=layers,
        embed_dim=width,
        num_heads=width // 32,
        num_kv_heads=width // 64,
        head_dim=32,
        mlp_dim=4 * width,
        max_positions=2048,
    )
    params = end_with_probability(init_params(config, jax.random.key(0)), tokenizer.eos_id, 1 / mean_length)
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    save_hf_folder(folder / "base", params, config=config, source_folder=folder / "tokenizer", hf_fields=ids)
    hf_to_orbax(folder / "base", folder / "params", reasoning=True, system_message=None)
    orbax_to_hf(folder / "params", folder / "hf")


def end_with_probability(params: Params, eos_id: int, probability: float) -> Params:
    """Returns the parameters with an end token of about the same probability at every token.

    Feature 0 is a large constant that no layer writes to: after the norm it is about the root of the width, and the
    end token's row of the head reads nothing else. The other tokens are about equally likely.
    """
    vocab_size, width = params["embedding"].shape
    params["embedding"] = params["embedding"].at[:, 0].set(10.0)
    layers = params["layers"]
    layers["attn"]["o"] = layers["attn"]["o"].at[..., 0].set(0.0)
    layers["mlp"]["down"] = layers["mlp"]["down"].at[..., 0].set(0.0)
    logit = np.log(vocab_size * probability / (1 - probability))
    head = params["lm_head"].at[0].set(0.0).at[:, eos_id].set(0.0)
    params["lm_head"] = head.at[0, eos_id].set(logit / np.sqrt(width))
    return params


def run_phi4r(args: argparse.Namespace, model: pathlib.Path, workdir: pathlib.Path) -> list[dict[str, float]]:
    """Returns the metrics of every step but the last, whose seconds are those of its update alone."""
    settings = GrpoRunSettings(
        init_from=str(model),
        task=TASK,
        sampler=SamplerSettings(prompt_length=prompt_length(model), max_response=args.max_response, page_size=64),
        num_steps=args.steps + WARM_UP + 1,
        problems_per_step=args.problems,
        model=ModelOverrides(dtype="float32", remat="none"),
        reward=RewardSettings(
            parts=(RewardPart("overlong"),),
            max_length=args.max_response,
            positive_control_length=args.max_response - 1,
            overlong_buffer=args.max_response,
        ),
        grpo=GrpoSettings(
            group_size=args.group, kl_beta=0.0, entropy_gamma=0.0, group_std="sample", advantage_eps=1e-4
        ),
        optimizer=OptimizerSettings(
            learning_rate=LEARNING_RATE, warmup_steps=0, schedule="constant", weight_decay=0.0, b2=0.999
        ),
        num_microbatches=args.microbatches,
        save_every=args.steps + WARM_UP + 1,
        save_rollouts_every=0,
    )
    run_grpo(settings, workdir)
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()][:-1]


def task_prompts(chat: Chat) -> list[list[int]]:
    """Returns the ids of every prompt of the task."""
    task = load_task(TASK)
    return [chat.prompt_ids(task.conversation(problem)) for problem in task.problems]


def prompt_length(model: pathlib.Path) -> int:
    """Returns the tokens of the longest prompt."""
    return max(map(len, task_prompts(load_chat(model))))


def trl_settings(args: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """Returns what `peer_trl` reads."""
    chat = load_chat(folder / "params")
    return {
        "folder": str(folder / "hf"),
        "prompts": task_prompts(chat),
        "eos_id": chat.tokenizer.eos_id,
        "pad_id": chat.tokenizer.pad_id,
        "problems": args.problems,
        "group_size": args.group,
        "max_response": args.max_response,
        "learning_rate": LEARNING_RATE,
        "max_steps": args.steps + WARM_UP + 1,
        "parts": args.trl_parts,
        "continuous": args.continuous,
    }


def print_sides(args: argparse.Namespace, sides: dict[str, list[dict[str, float]]]) -> None:
    """Prints a table of the counted steps."""
    rates = {}
    print(f"{args.problems} x {args.group} responses of at most {args.max_response} tokens a step, same model")
    columns = {"step s": 9, "best": 9, "worst": 9, "rollout s": 11, "tokens": 9, "tokens/s": 10, "relative": 10}
    print(" " * 8 + "".join(f"{name:>{width}s}" for name, width in columns.items()))
    for name, steps in sides.items():
        seconds = [step["seconds"] for step in steps]
        median, rollout = statistics.median(seconds), statistics.median(step["rollout_s"] for step in steps)
        tokens = statistics.mean(step["tokens"] for step in steps)
        rates[name] = tokens / median
        print(
            f"{name:8s}{median:9.2f}{min(seconds):9.2f}{max(seconds):9.2f}{rollout:11.2f}{tokens:9.0f}"
            f"{rates[name]:10.0f}{rates[name] / rates['trl']:9.2f}x"
        )


def check_same_policy(sides: dict[str, list[dict[str, float]]]) -> None:
    """Refuses a comparison of policies that differ.

    Raises:
      UserError: if the mean entropies are not within 2% of each other.
    """
    trl, phi4r = (statistics.mean(step["entropy"] for step in sides[name]) for name in ("trl", "phi4r"))
    if abs(trl - phi4r) > 0.02 * trl:
        raise UserError(f"the two sides train different policies: entropies of {trl:.4f} and {phi4r:.4f} nats.")
    print(f"mean entropy of a token: {trl:.4f} nats in TRL, {phi4r:.4f} in phi4r")


def main() -> None:
    """Runs the comparison and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=pathlib.Path, required=True, help="an interpreter that has trl")
    parser.add_argument("--steps", type=int, default=8, help="counted steps of each side")
    parser.add_argument("--problems", type=int, default=8, help="prompts of a step")
    parser.add_argument("--group", type=int, default=8, help="responses to each")
    parser.add_argument("--max-response", type=int, default=256, help="tokens of a response, at most")
    parser.add_argument("--mean-response", type=int, default=64, help="about the mean length of responses")
    parser.add_argument("--width", type=int, default=256, help="of the model")
    parser.add_argument("--layers", type=int, default=6, help="of the model")
    parser.add_argument("--microbatches", type=int, default=8, help="parts of phi4r's update; empty ones cost nothing")
    parser.add_argument("--trl-parts", type=int, default=1, help="parts of TRL's update")
    parser.add_argument("--continuous", action="store_true", help="let TRL generate with continuous batching")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        write_policy(folder, width=args.width, layers=args.layers, mean_length=args.mean_response)
        with Peer(args.python, SCRIPT, trl_settings(args, folder)) as trl:
            before = [trl() for _ in range(WARM_UP + args.steps // 2)]
            ours = run_phi4r(args, folder / "params", folder / "run")
            after = [trl() for _ in range(args.steps - args.steps // 2)]
    rows = args.problems * args.group
    sides = {
        "trl": [*before, *after][WARM_UP:],
        "phi4r": [
            {
                "seconds": step["step_s"],
                "rollout_s": step["sample_s"] + step["judge_s"],
                "tokens": step["length"] * rows,
                "entropy": step["entropy"],
            }
            for step in ours[WARM_UP:]
        ],
    }
    check_same_policy(sides)
    print_sides(args, sides)


if __name__ == "__main__":
    main()
