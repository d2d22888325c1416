import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from phi4r.checkpoint.donation import owned_copy
from phi4r.sharding import MeshSettings, make_mesh


def pointers(array):
    return [shard.data.unsafe_buffer_pointer() for shard in array.addressable_shards]


def test_a_borrowed_array_becomes_donatable_and_keeps_values_and_sharding():
    sharding = NamedSharding(make_mesh(MeshSettings(fsdp=8)), PartitionSpec("fsdp"))
    values = np.arange(4096, dtype=np.float32).reshape(64, 64)
    increment = jax.jit(lambda x: x + 1, donate_argnums=0)

    def borrowed():
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index].copy())

    held = borrowed()
    before = pointers(held)
    assert pointers(increment(held)) != before  # why the copy is needed: the buffers are not reused

    original = borrowed()
    owned = owned_copy({"x": original})["x"]
    assert original.is_deleted() and owned.sharding == sharding
    before = pointers(owned)
    result = increment(owned)
    assert pointers(result) == before
    np.testing.assert_array_equal(result, values + 1)
