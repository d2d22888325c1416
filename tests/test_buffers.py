"""What the compiled programs hold in memory: no array over T x T or T x V, whatever the program."""

import contextlib
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
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.objective import make_grpo_loss
from phi4r.rl.scoring import make_score_fn
from phi4r.rl.trajectories import Trajectories
from phi4r.sampling import Sampler, SamplerSettings, SamplingParams
from phi4r.sharding import MeshSettings, batch_sharding, make_mesh, token_sharding
from phi4r.train.losses import make_sft_loss
from phi4r.train.optim import OptimizerSettings, make_optimizer
from phi4r.train.setup import params_on_mesh
from phi4r.train.state import abstract_state, state_shardings
from phi4r.train.step import make_update_fn

LENGTH, CHUNK, ROWS = 4096, 512, 4
SLOTS, PAGE = 8, 64
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
    trajectories = Trajectories(batch, batch.loss_mask, batch.loss_mask, batch.loss_mask)
    return compiled_update(make_grpo_loss(MODEL, GrpoSettings(), chunk_size=CHUNK), trajectories, mesh)


def score_text(mesh):
    score_fn = make_score_fn(MODEL, chunk_size=CHUNK, temperature=1.0)
    return score_fn.lower(params_on_mesh(CONFIG, mesh), batch_on(mesh)).compile().as_text()


def sampler_programs(mesh, *, prompt_length, slots, cache="float"):
    """The sampler's compiled programs, for responses up to LENGTH: prefill, burst, and the pool that they get."""
    settings = SamplerSettings(
        prompt_length, LENGTH - prompt_length, num_slots=slots, page_size=PAGE, burst=16, cache=cache
    )
    sampler = Sampler(CONFIG, settings, eos_ids=[1], pad_id=0, mesh=mesh)
    rows = None if mesh is None else batch_sharding(sampler.mesh)

    def on_batch(arrays):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows), arrays)

    params = abstract_params(CONFIG) if mesh is None else params_on_mesh(CONFIG, mesh)
    unrolled, size = sampler.unroll.eval_shape(params), sampler.slots(slots)
    with jax.set_mesh(sampler.mesh) if mesh is not None else contextlib.nullcontext():
        pages = sampler.programs.empty.eval_shape(sampler.num_pages(size) * sampler.shards, PAGE)
        count, chunk = sampler.prefill_shape(size)
        prompts = on_batch(sampler.empty_slots(count))
        tokens = on_batch(np.zeros((count * sampler.shards, chunk), np.int32))
        prefill = sampler.programs.prefill.lower(
            unrolled, pages, prompts.table, prompts.lengths, tokens, prompts.lengths
        )
        sampling = jax.tree.map(lambda x: jax.ShapeDtypeStruct((), jnp.result_type(x)), SamplingParams())
        burst = sampler.programs.burst.lower(unrolled, pages, on_batch(sampler.empty_slots(size)), sampling)
    return prefill, burst, pages


def prefill_text(mesh):
    return sampler_programs(mesh, prompt_length=LENGTH - 8, slots=ROWS)[0].compile().as_text()


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


CASES = [(p, m) for p in PROGRAMS for m in MESHES if (p, m) != ("prefill", "context")]  # the sampler has none


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


# Decoding


DECODING = [(None, "float"), (1, "float"), (4, "float"), (None, "int8"), (4, "int8")]


@functools.cache
def burst_of(tensor, cache):
    """A compiled burst on (2, tensor) devices or on one, and the pool; as (compiled, pages, parts of the batch)."""
    mesh = tensor and make_mesh(
        MeshSettings(fsdp=2, tensor=tensor), devices=jax.devices()[: 2 * tensor], heads=CONFIG.heads
    )
    _, burst, pages = sampler_programs(mesh, prompt_length=512, slots=SLOTS, cache=cache)
    return burst.compile(), pages, 2 if tensor else 1


def local_shape(leaf):
    return leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)


@pytest.mark.parametrize(("tensor", "cache"), DECODING)
def test_a_burst_writes_the_pages_in_place_and_needs_less_memory_than_a_layer_of_them(tensor, cache):
    compiled, pages, _ = burst_of(tensor, cache)
    layer = sum(math.prod(local_shape(leaf)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(pages.keys[0]))
    stats = compiled.memory_analysis()
    assert stats.alias_size_in_bytes >= 2 * CONFIG.num_layers * layer
    assert stats.temp_size_in_bytes < layer / 2


@pytest.mark.parametrize(("tensor", "cache"), DECODING)
def test_a_decode_step_reads_the_pages_where_they_lie(tensor, cache):
    compiled, pages, parts = burst_of(tensor, cache)
    pool, *scales = map(local_shape, jax.tree.leaves(pages.keys[0]))
    _, heads, page, head_dim = pool
    rows, gathered = SLOTS // parts, SLOTS // parts * LENGTH * heads * head_dim  # the whole cache of all sequences
    blocks = computations(compiled.as_text())
    bodies = {name for text in blocks.values() for name in re.findall(r"body=%?([\w.\-]+)", text)}
    # The loop over steps is the one around others: those over pages.
    steps = [name for name in bodies if sum("body=" in blocks[called] for called in reached_from(name, blocks)) > 0]
    text = "\n".join(blocks[called] for name in steps for called in reached_from(name, blocks))
    shapes = shapes_in(text)
    assert {pool, (rows, heads, page, head_dim)} <= shapes  # the search sees the pool, and a page of each sequence
    assert not {shape for shape in shapes - {pool} if math.prod(shape) >= gathered}
    for shape in (pool, *scales):
        made_by = re.findall(rf"= [a-z0-9]+\[{','.join(map(str, shape))}\]\S* ([\w\-]+)\(", text)
        assert set(made_by) == {"get-tuple-element", "parameter"}
