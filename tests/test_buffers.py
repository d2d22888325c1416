"""What the compiled programs hold in memory: no array over T x T or T x V, whatever the program."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.model.config import ModelConfig
from phi4r.model.inputs import TokenBatch
from phi4r.model.transformer import Transformer, abstract_params
from phi4r.rl.grpo import GrpoSettings, make_grpo_loss
from phi4r.rl.scoring import make_score_fn
from phi4r.rl.trajectories import Trajectories
from phi4r.sampling.decode import prefill
from phi4r.sharding import MeshSettings, batch_sharding, make_mesh, token_sharding
from phi4r.train.losses import make_sft_loss
from phi4r.train.optim import OptimizerSettings, make_optimizer
from phi4r.train.setup import params_on_mesh
from phi4r.train.state import abstract_state, state_shardings
from phi4r.train.step import make_update_fn

LENGTH, CHUNK, ROWS = 4096, 512, 4
CONFIG = ModelConfig(
    vocab_size=2048,
    num_layers=2,
    embed_dim=64,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    mlp_dim=96,
    max_positions=LENGTH,
    remat="full",
    attention="blockwise",
)
MODEL = Transformer(CONFIG)


def batch_on(mesh):
    def tokens(dtype):
        return jax.ShapeDtypeStruct((ROWS, LENGTH), dtype, sharding=token_sharding(mesh))

    return TokenBatch(*(tokens(jnp.int32) for _ in range(4)), tokens(jnp.float32))


def compiled_update(loss_fn, batch, mesh):
    optimizer, _ = make_optimizer(OptimizerSettings(warmup_steps=0), num_steps=2)
    state = abstract_state(params_on_mesh(CONFIG, mesh), optimizer)
    update_fn = make_update_fn(loss_fn, optimizer, state_shardings=state_shardings(state))
    return update_fn.lower(state, batch).compile().as_text()


def sft_text(mesh):
    return compiled_update(make_sft_loss(MODEL, chunk_size=CHUNK), batch_on(mesh), mesh)


def grpo_text(mesh):
    batch = batch_on(mesh)
    advantages = jax.ShapeDtypeStruct((ROWS,), jnp.float32, sharding=batch_sharding(mesh))
    trajectories = Trajectories(batch, batch.loss_mask, batch.loss_mask, advantages)
    return compiled_update(make_grpo_loss(MODEL, GrpoSettings(), chunk_size=CHUNK), trajectories, mesh)


def score_text(mesh):
    score_fn = make_score_fn(MODEL, chunk_size=CHUNK, temperature=1.0)
    return score_fn.lower(params_on_mesh(CONFIG, mesh), batch_on(mesh)).compile().as_text()


def prefill_text(mesh):
    batch = batch_on(mesh)
    run = functools.partial(prefill, Transformer(CONFIG, unrolled=True), capacity=LENGTH + 8)
    params = abstract_params(CONFIG, unrolled=True)
    return jax.jit(run).lower(params, batch.tokens, batch.segment_ids).compile().as_text()


PROGRAMS = {"sft": sft_text, "grpo": grpo_text, "score": score_text, "prefill": prefill_text}
MESHES = {"fsdp": MeshSettings(fsdp=4, tensor=2), "context": MeshSettings(fsdp=2, context=2, tensor=2)}


@functools.cache
def text_of(program, mesh_name):
    mesh = make_mesh(MESHES[mesh_name], heads=CONFIG.heads)
    with jax.set_mesh(mesh):
        return PROGRAMS[program](mesh)


def shapes_in(text):
    """Every array shape of a compiled program."""
    return {tuple(map(int, dims.split(","))) for dims in re.findall(r"[a-z]+[0-9]+\[([0-9,]+)\]", text)}


CASES = [(p, m) for p in PROGRAMS for m in MESHES if (p, m) != ("prefill", "context")]


@pytest.mark.parametrize(("program", "mesh"), CASES)
def test_no_buffer_is_as_large_as_a_row_times_a_row_or_times_the_vocabulary(program, mesh):
    shapes = shapes_in(text_of(program, mesh))
    assert not {shape for shape in shapes if math.prod(shape) >= LENGTH * CONFIG.vocab_size}
    assert not {shape for shape in shapes if shape.count(LENGTH) > 1 or {LENGTH, CONFIG.vocab_size} <= set(shape)}
    assert max(map(math.prod, shapes)) >= LENGTH * CONFIG.embed_dim // 2  # the search sees the activations


def test_the_search_would_find_such_a_buffer():
    whole = jax.jit(lambda x, w: jax.nn.logsumexp(x @ w, axis=-1))
    inputs = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((LENGTH, 8), (8, CONFIG.vocab_size))]
    assert (LENGTH, CONFIG.vocab_size) in shapes_in(whole.lower(*inputs).compile().as_text())


def computations(text):
    """The text of every computation of a compiled program, by name."""
    return dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) \([^\n]*\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL))


def reached_from(name, blocks):
    """The names of a computation and of all that it calls."""
    seen, todo = set(), [name]
    while todo:
        name = todo.pop()
        if name in blocks and name not in seen:
            seen.add(name)
            todo += re.findall(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)", blocks[name])
    return seen


@pytest.mark.parametrize("program", ["sft", "grpo", "score"])
def test_a_chunk_of_the_loss_gathers_nothing(program):
    blocks = computations(text_of(program, "fsdp"))
    logits = re.compile(rf"f32\[1,{CHUNK},{CONFIG.vocab_size // 2}\]")  # the vocabulary is halved by tensor = 2
    bodies = {name for text in blocks.values() for name in re.findall(r"body=%?([\w.\-]+)", text)}
    chunks = [name for name in bodies if any(logits.search(blocks[called]) for called in reached_from(name, blocks))]
    assert chunks
    for name in chunks:
        assert not [called for called in reached_from(name, blocks) if "all-gather" in blocks[called]]
