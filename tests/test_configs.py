"""Every config file loads, is pure data, and fits the dataclasses; the paper's build at full size."""

import ast
import dataclasses
import importlib
import inspect
import json
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import pytest

from phi4r import main
from phi4r.model.config import PHI4_REASONING
from phi4r.model.inputs import TokenBatch
from phi4r.model.transformer import Transformer, abstract_params
from phi4r.rl.objective import make_grpo_loss
from phi4r.rl.train import GrpoRunSettings
from phi4r.rl.trajectories import Trajectories
from phi4r.settings import build
from phi4r.train.losses import make_sft_loss
from phi4r.train.optim import make_optimizer
from phi4r.train.sft import SftSettings
from phi4r.train.state import abstract_state
from phi4r.train.step import make_update_fn

FOLDER = pathlib.Path(__file__).parent.parent / "configs"
FILES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("common", "__init__"))


def sizes(name: str) -> list[str]:
    """The arguments that a config takes: what its get_config offers when it refuses one."""
    get_config = importlib.import_module(f"configs.{name}").get_config
    if not inspect.signature(get_config).parameters:
        return []
    with pytest.raises(ValueError) as refused:
        get_config("no such size")
    return str(refused.value).rpartition("take ")[2].removesuffix(".").split(" or ")


CASES = [(name, argument) for name in FILES for argument in [None, *sizes(name)]]


def load(name, argument) -> ml_collections.ConfigDict:
    get_config = importlib.import_module(f"configs.{name}").get_config
    return get_config() if argument is None else get_config(argument)


def test_the_search_finds_the_configs_and_their_arguments():
    assert {"sft_phi4_reasoning", "grpo_phi4_reasoning_plus", "quickstart"} <= set(FILES)
    assert ("sft_phi4_reasoning", "tiny") in CASES and ("grpo_phi4_reasoning_plus", "tiny") in CASES


@pytest.mark.parametrize(("name", "argument"), CASES, ids=str)
def test_a_config_builds_its_settings(name, argument, tmp_path, monkeypatch):
    """By the route of `phi4r.main`, up to the run itself."""
    built = []

    def keep(cls, sections, *, where):
        built.append(build(cls, sections, where=where))
        raise Stop

    monkeypatch.setattr("phi4r.settings.build", keep)
    with pytest.raises(Stop):
        main.run_experiment(load(name, argument), tmp_path / "run")
    assert dataclasses.is_dataclass(built[0]) and built[0].__dataclass_params__.frozen
    assert "{workdir}" not in repr(built[0])
    assert not (tmp_path / "run").exists()


class Stop(Exception):
    """Ends `run_experiment` where the settings are built."""


@pytest.mark.parametrize(("name", "argument"), CASES, ids=str)
def test_a_config_is_the_same_data_every_time_and_is_kept_as_json(name, argument):
    config = load(name, argument)
    assert config == load(name, argument)
    json.dumps(config.to_dict())


@pytest.mark.parametrize("name", [*FILES, "common"])
def test_a_config_imports_only_common_and_ml_collections(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    imported = {
        f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    allowed = {"ml_collections.ConfigDict", "configs.common", "collections.abc.Callable"}
    assert imported <= allowed


@pytest.mark.parametrize("name", FILES)
def test_a_config_says_in_its_docstring_how_it_is_run(name):
    assert f"--config=configs/{name}.py" in importlib.import_module(f"configs.{name}").__doc__


# Full size, without allocating anything


def paper_settings(name, cls):
    sections = load(name, "paper").to_dict()
    sections.pop("experiment")
    return build(cls, sections, where="config")


def abstract_batch(rows, length) -> TokenBatch:
    ints = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    return TokenBatch(ints, ints, ints, ints, jax.ShapeDtypeStruct((rows, length), jnp.float32))


def abstract_update(settings, make_loss, batch):
    """Traces one update of the 14B model; returns the states before and after, and the metrics."""
    config = PHI4_REASONING.replace(
        dtype=settings.model.dtype, param_dtype=settings.model.param_dtype, remat=settings.model.remat
    )
    optimizer, schedule = make_optimizer(settings.optimizer, num_steps=settings.num_steps)
    on_device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=on_device), abstract_params(config)
    )
    state = abstract_state(params, optimizer)
    update_fn = make_update_fn(
        make_loss(Transformer(config)), optimizer, num_microbatches=settings.num_microbatches, schedule=schedule
    )
    return state, *jax.eval_shape(update_fn, state, batch)


def assert_full_size(before, after, metrics):
    assert sum(leaf.size for leaf in jax.tree.leaves(after.params)) == 14_659_507_200
    assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {jnp.dtype("float32")}
    # two moments of the same shapes, and what optax counts
    assert sum(leaf.size for leaf in jax.tree.leaves(after.opt_state) if leaf.ndim) == 2 * 14_659_507_200
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) for state in (before, after)]
    assert shapes[0] == shapes[1]
    assert {metric.shape for metric in metrics.values()} == {()}


def test_the_sft_of_the_paper_builds_at_14b():
    settings = paper_settings("sft_phi4_reasoning", SftSettings)
    rows, length = settings.data.global_batch, settings.data.row_length
    assert length == PHI4_REASONING.max_positions
    before, after, metrics = abstract_update(
        settings, lambda model: make_sft_loss(model, chunk_size=settings.logprob_chunk), abstract_batch(rows, length)
    )
    assert_full_size(before, after, metrics)
    assert {"loss", "nll", "entropy", "grad_norm", "learning_rate", "finite"} <= set(metrics)


def test_the_grpo_of_the_paper_builds_at_14b():
    settings = paper_settings("grpo_phi4_reasoning_plus", GrpoRunSettings)
    rows = settings.problems_per_step * settings.grpo.group_size
    length = settings.sampler.prompt_length + settings.sampler.max_response
    assert (rows, length) == (512, PHI4_REASONING.max_positions)
    floats = jax.ShapeDtypeStruct((rows, length), jnp.float32)
    batch = Trajectories(abstract_batch(rows, length), floats, floats, floats)
    before, after, metrics = abstract_update(
        settings, lambda model: make_grpo_loss(model, settings.grpo, chunk_size=settings.logprob_chunk), batch
    )
    assert_full_size(before, after, metrics)
    assert {"loss", "kl", "entropy", "ratio", "clip_low", "clip_high", "finite"} <= set(metrics)
