"""Updates of SFT (forward, backward, AdamW) of a random Phi-3 of 100M float32 parameters against transformers + torch.

    python -m benchmarks.sft_vs_transformers --workload=full        # 4 x 512 tokens, the same batch on both sides
    python -m benchmarks.sft_vs_transformers --workload=unequal     # problems and solutions of MATH-500 as they are

On unequal lengths a random draw of examples fills the packed rows of phi4r; transformers trains on the same examples in
padded batches with an attention mask, in the order of the draw, and their gradients add up to one update. Before the
clock starts every trained token must have the same loss on both sides, and then every update the same mean loss. The
rate counts real tokens, not padding. Loading and compilation are not timed.
"""

import argparse
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from benchmarks.smollm2 import smollm2_tokenizer
from benchmarks.timing import print_table, time_interleaved
from phi4r.checkpoint.release import load_hf_folder, save_hf_folder
from phi4r.data.packing import Segment, best_fit, pack_rows
from phi4r.errors import UserError
from phi4r.model.config import ModelConfig
from phi4r.model.inputs import make_token_batch
from phi4r.model.logprobs import token_logprobs
from phi4r.model.transformer import Transformer, init_params
from phi4r.train.losses import make_sft_loss
from phi4r.train.optim import OptimizerSettings, make_optimizer
from phi4r.train.state import create_state
from phi4r.train.step import make_update_fn

# The proportions of Phi-4 (4 queries on a KV head, a wide MLP), the vocabulary of SmolLM2: 99.7M parameters.
SHAPE = ModelConfig(
    vocab_size=49152,
    num_layers=10,
    embed_dim=768,
    num_heads=12,
    num_kv_heads=3,
    head_dim=64,
    mlp_dim=2048,
    tied_embeddings=True,
)
OPTIMIZER = OptimizerSettings(learning_rate=1e-5, warmup_steps=0, schedule="constant")
DEFAULT_DATA = pathlib.Path(os.environ.get("PHI4R_DATA", pathlib.Path(__file__).parents[2] / "shared" / "data"))
IGNORED = -100  # the label that transformers does not train on


class Side(NamedTuple):
    """One competitor."""

    update: Callable[[], float]  # trains once on the batch, and returns its loss before
    token_losses: Callable[[], np.ndarray]  # of every trained token, in the order of the examples


def full_examples(num_rows: int, length: int) -> list[Segment]:
    """Returns examples that are as long as a row, every token trained."""
    tokens = np.random.default_rng(0).integers(17, SHAPE.vocab_size, (num_rows, length))
    return [Segment(row, np.ones(length, bool), np.arange(length)) for row in tokens]


def unequal_examples(data: pathlib.Path, num_rows: int, length: int) -> list[Segment]:
    """Returns examples of MATH-500 in random order, as many as can be packed into `num_rows` rows.

    The problem is the prompt, the solution is trained.

    Raises:
      UserError: if the data set is not there.
    """
    file = data / "math500" / "math500_test.jsonl"
    if not file.is_file():
        raise UserError(f"{file} is missing; give the folder that holds math500/ with --data or PHI4R_DATA.")
    tokenizer = smollm2_tokenizer()
    records = [json.loads(line) for line in file.read_text().splitlines()]
    examples = []
    for index in np.random.default_rng(0).permutation(len(records)):
        prompt, response = (tokenizer.encode(records[index][name]).ids for name in ("problem", "solution"))
        tokens = [*prompt, *response, tokenizer.token_to_id("<|im_end|>")]
        trained = np.arange(len(tokens)) >= len(prompt)
        examples.append(Segment(tokens, trained, np.arange(len(tokens))))
        if best_fit(np.array([len(example.tokens) for example in examples]), length).max() >= num_rows:
            break
    return examples[:-1]


def make_transformers(folder: pathlib.Path, examples: Sequence[Segment], batch_size: int) -> Side:
    """Returns the side of transformers: batches of `batch_size` examples, padded to the longest of each."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import Phi3ForCausalLM

    model = Phi3ForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    scales = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": OPTIMIZER.weight_decay}, {"params": scales, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups, lr=OPTIMIZER.learning_rate, betas=(OPTIMIZER.b1, OPTIMIZER.b2), eps=OPTIMIZER.eps, fused=True
    )
    batches = [_padded(examples[i : i + batch_size]) for i in range(0, len(examples), batch_size)]
    batches = [tuple(map(torch.as_tensor, batch)) for batch in batches]
    num_trained = sum(int((labels[:, 1:] != IGNORED).sum()) for *_, labels in batches)

    def losses(ids, mask, labels):
        logits = model(ids, attention_mask=None if mask.all() else mask, use_cache=False).logits
        flat = logits[:, :-1].reshape(-1, logits.shape[-1])
        return cross_entropy(flat, labels[:, 1:].reshape(-1), ignore_index=IGNORED, reduction="none")

    def update() -> float:
        total = 0.0
        for batch in batches:
            loss = losses(*batch).sum() / num_trained
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    def token_losses() -> np.ndarray:
        with torch.no_grad():
            return np.concatenate([losses(*b)[b[2][:, 1:].reshape(-1) != IGNORED].numpy() for b in batches])

    return Side(update, token_losses)


def _padded(examples: Sequence[Segment]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns token ids, attention mask and labels, padded on the right; [B T] int64 each."""
    rows = pack_rows([[example] for example in examples], max(len(example.tokens) for example in examples))
    labels = np.where(rows.trained, rows.tokens, IGNORED)
    return rows.tokens.astype(np.int64), rows.segment_ids.astype(np.int64), labels.astype(np.int64)


def make_phi4r(folder: pathlib.Path, examples: Sequence[Segment], length: int, chunk_size: int) -> Side:
    """Returns our side: the update function of SFT on packed rows."""
    config, params = load_hf_folder(folder)
    model = Transformer(config)
    assigned = best_fit(np.array([len(example.tokens) for example in examples]), length)
    order = np.argsort(assigned, kind="stable")  # of the examples in the rows
    packed = pack_rows([[examples[i] for i in order[assigned[order] == row]] for row in np.unique(assigned)], length)
    batch = make_token_batch(packed.tokens, packed.segment_ids, packed.trained, packed.positions)
    optimizer, _ = make_optimizer(OPTIMIZER, num_steps=1000)
    state = create_state(params, optimizer)
    step = make_update_fn(make_sft_loss(model, chunk_size=chunk_size), optimizer)
    score = jax.jit(lambda params: token_logprobs(model, params, batch, chunk_size=chunk_size)[0])

    def update() -> float:
        nonlocal state
        state, metrics = step(state, batch)
        return float(jax.block_until_ready((state, metrics))[1]["loss"])

    def token_losses() -> np.ndarray:
        losses = -np.asarray(score(state.params))[batch.loss_mask > 0]
        counts = [int(examples[i].trained[1:].sum()) for i in order]
        apart = np.split(losses, np.cumsum(counts)[:-1])
        return np.concatenate([apart[place] for place in np.argsort(order)])

    return Side(update, token_losses)


def main() -> None:
    """Runs the comparison and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=("full", "unequal"), default="full", help="what is trained on")
    parser.add_argument("--rows", type=int, default=4, help="rows of phi4r's batch")
    parser.add_argument("--length", type=int, help="tokens of a row (default: 512 full, 2048 packed)")
    parser.add_argument("--padded-batch", type=int, default=16, help="examples that transformers pads together")
    parser.add_argument("--chunk-size", type=int, default=2048, help="positions of a row whose logits exist together")
    parser.add_argument("--repeats", type=int, default=3, help="timed updates of each side")
    parser.add_argument("--data", type=pathlib.Path, default=DEFAULT_DATA, help="folder that holds math500/")
    args = parser.parse_args()
    if args.workload == "full":
        length = args.length or 512
        examples = full_examples(args.rows, length)
    else:
        length = args.length or 2048
        examples = unequal_examples(args.data, args.rows, length)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "model"
        save_hf_folder(folder, jax.jit(init_params, static_argnums=0)(SHAPE, jax.random.key(0)), config=SHAPE)
        sides = {
            "transformers": make_transformers(folder, examples, args.padded_batch),
            "phi4r": make_phi4r(folder, examples, length, args.chunk_size),
        }
    lengths = [len(example.tokens) for example in examples]
    batches = [lengths[i : i + args.padded_batch] for i in range(0, len(lengths), args.padded_batch)]
    padded = sum(len(batch) * max(batch) for batch in batches)
    print(f"{len(lengths)} examples, {sum(lengths)} tokens: {padded} padded, {args.rows * length} in packed rows")
    title = f"SFT update, {args.workload} lengths, {SHAPE.num_params / 1e6:.1f}M parameters, float32"
    print_table(title, time_checked(sides, repeats=args.repeats), tokens=sum(lengths), baseline="transformers")


def time_checked(sides: dict[str, Side], *, repeats: int) -> dict[str, list[float]]:
    """Returns the seconds of updates, after checking that both sides compute the same losses."""
    per_token = [side.token_losses() for side in sides.values()]
    np.testing.assert_allclose(*per_token, rtol=0, atol=1e-3, err_msg="losses of single tokens differ")
    worst = np.abs(per_token[0] - per_token[1]).max()
    print(f"losses of {len(per_token[0])} trained tokens: the largest difference is {worst:.1e} nats")
    losses: dict[str, list[float]] = {name: [] for name in sides}
    updates = {name: lambda name=name: losses[name].append(sides[name].update()) for name in sides}
    seconds = time_interleaved(updates, repeats=repeats)
    np.testing.assert_allclose(losses["phi4r"], losses["transformers"], rtol=1e-4, err_msg="losses of updates differ")
    print(f"losses of the updates, the same on both sides: {' '.join(f'{loss:.4f}' for loss in losses['phi4r'])}")
    return seconds


if __name__ == "__main__":
    main()
