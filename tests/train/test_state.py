import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from phi4r.sharding import MeshSettings, make_mesh
from phi4r.train.optim import OptimizerSettings, make_optimizer
from phi4r.train.state import abstract_state, create_state, state_shardings


@pytest.fixture
def optimizer():
    return make_optimizer(OptimizerSettings(), num_steps=1000)[0]


def make_params():
    """Two matrices laid out differently over 4 x 2 devices."""
    mesh = make_mesh(MeshSettings(fsdp=4, tensor=2))
    return {
        "w": jax.device_put(jnp.arange(64.0).reshape(8, 8), NamedSharding(mesh, PartitionSpec("fsdp", "kv"))),
        "norm": {"scale": jax.device_put(jnp.ones(8), NamedSharding(mesh, PartitionSpec()))},
    }


def test_moments_lie_as_their_parameters_do(optimizer):
    params = make_params()
    layout = params["w"].sharding
    state = create_state(params, optimizer)
    adam = next(s for s in jax.tree.leaves(state.opt_state, is_leaf=_is_adam) if _is_adam(s))
    assert state.params["w"].sharding == adam.mu["w"].sharding == adam.nu["w"].sharding == layout
    assert [s.data.shape for s in adam.nu["w"].addressable_shards] == [(2, 4)] * 8
    assert adam.count.sharding.is_fully_replicated and state.step.sharding.is_fully_replicated


def test_the_abstract_state_is_the_created_one_without_arrays(optimizer):
    abstract = abstract_state(make_params(), optimizer)
    state = create_state(make_params(), optimizer)
    assert jax.tree.structure(abstract) == jax.tree.structure(state)
    for shape, leaf in zip(jax.tree.leaves(abstract), jax.tree.leaves(state), strict=True):
        assert isinstance(shape, jax.ShapeDtypeStruct)
        assert (shape.shape, shape.dtype, shape.sharding) == (leaf.shape, leaf.dtype, leaf.sharding)


def test_an_abstract_state_of_an_abstract_state_is_the_same(optimizer):
    abstract = abstract_state(make_params(), optimizer)
    assert abstract_state(abstract.params, optimizer) == abstract


def test_creating_a_state_takes_over_the_buffers_of_the_parameters(optimizer):
    params = make_params()
    before = [s.data.unsafe_buffer_pointer() for s in params["w"].addressable_shards]
    expected = np.asarray(params["w"])
    state = create_state(params, optimizer)
    assert params["w"].is_deleted()
    assert [s.data.unsafe_buffer_pointer() for s in state.params["w"].addressable_shards] == before
    np.testing.assert_array_equal(state.params["w"], expected)
    assert int(state.step) == 0


def test_a_state_on_one_device_needs_no_mesh(optimizer):
    state = create_state({"w": jnp.ones(3)}, optimizer)
    assert state_shardings(state).params["w"] == jnp.ones(3).sharding


def _is_adam(node):
    return isinstance(node, optax.ScaleByAdamState)
