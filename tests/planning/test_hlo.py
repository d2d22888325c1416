import jax
import jax.numpy as jnp
import pytest

from phi4r.planning.hlo import Array, Module, parse_shape
from phi4r.planning.traffic import measure_traffic

# What a compiler for TPUs writes: no trip counts, tiled layouts, results in scratch memory S(1).
TPU_TEXT = """HloModule jit_f, is_scheduled=true

%condition (p: (s32[], f32[8,128])) -> pred[] {
  %limit = s32[]{:T(128)} constant(40)
  %p = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %step = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %lt = pred[]{:T(512)} compare(%step, %limit), direction=LT
}

%body (q: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %q = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%q), index=0
  %x = f32[8,128]{1,0:T(8,128)} get-tuple-element(%q), index=1
  %gathered = f32[32,128]{1,0:T(8,128)} all-gather(%x), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  %fast = f32[32,128]{1,0:T(8,128)S(1)} copy(%gathered)
  %summed = f32[8,128]{1,0:T(8,128)} reduce-scatter(%gathered), replica_groups={{0,4},{1,5},{2,6},{3,7}}, to_apply=%add
  ROOT %next = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%i, %summed)
}

ENTRY %main (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %state = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%zero, %a)
  %loop = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) while(%state), condition=%condition, body=%body
  ROOT %out = f32[8,128]{1,0:T(8,128)} get-tuple-element(%loop), index=1
}
"""


def test_shapes_are_read_with_their_memory():
    arrays = parse_shape("(bf16[2,3]{1,0:T(8,128)(2,1)S(1)}, s32[], /*index=2*/pred[7]{0})")
    assert arrays == (Array("bf16", (2, 3), 1), Array("s32", ()), Array("pred", (7,)))
    assert [array.num_bytes for array in arrays] == [12, 4, 7]


def test_the_body_of_a_loop_counts_as_often_as_its_condition_says():
    module = Module(TPU_TEXT)
    assert module.entry == "main"
    assert module.counts()["body"].once == 40


def test_collectives_and_memory_are_counted_by_hand():
    once, iteration = measure_traffic(Module(TPU_TEXT), hosts=[0, 0, 0, 0, 1, 1, 1, 1])
    row = 8 * 128 * 4
    # The gather goes round a ring of 4 on one host: 3 more parts. The scatter goes between 2 on different hosts: half
    # of its operand of 4 rows, all of it over the network.
    assert once.by_kind == {"all-gather": 40 * 3 * row, "reduce-scatter": 40 * 4 * row // 2}
    assert once.network == 40 * 2 * row
    # Gather: 1 in, 4 out. Copy: 4 in, and out into scratch memory. Scatter: 4 in, 1 out.
    # The condition reads and writes 9 bytes.
    assert once.memory == 40 * ((5 + 4 + 5) * row + 9)
    assert iteration.memory == iteration.links == 0


def test_a_gather_over_hosts_shares_their_adapters():
    text = TPU_TEXT.replace("[2,4]<=[8]", "[1,8]<=[8]")
    once, _ = measure_traffic(Module(text), hosts=[0, 0, 0, 0, 1, 1, 1, 1])
    row = 8 * 128 * 4
    assert once.by_kind["all-gather"] == 40 * 7 * row
    # 4 rows come in from the other host, shared by 4 devices; and the scatter as before.
    assert once.network == 40 * (1 + 2) * row


def test_a_loop_without_a_known_end_is_counted_by_the_pass():
    text = TPU_TEXT.replace("%limit = s32[]{:T(128)} constant(40)", "%limit = s32[] get-tuple-element(%p), index=0")
    once, iteration = measure_traffic(Module(text), hosts=[0] * 8)
    assert once.links == 0
    assert iteration.by_kind["all-gather"] == 3 * 8 * 128 * 4


def test_a_slice_written_in_place_counts_as_the_slice():
    def function(x, table):
        def body(table, i):
            return jax.lax.dynamic_update_slice_in_dim(table, (x * i)[None], i, 0), None

        return jax.lax.scan(body, table, jnp.arange(10))[0]

    x, table = jnp.ones((1000,)), jnp.ones((10, 1000))
    text = jax.jit(function, donate_argnums=1).lower(x, table).compile().as_text()
    once, _ = measure_traffic(Module(text), hosts=[0])
    # 10 times x in and a row out; a whole table in and out each time would be 10 times as much.
    assert 10 * 2 * 4000 <= once.memory < 3 * 10 * 2 * 4000


def test_our_text_of_a_sharded_scan_is_read():
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "fsdp"))
    batch = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp"))

    def function(x, weights):
        def layer(x, w):
            return jax.lax.with_sharding_constraint(jnp.tanh(x @ w), batch), None

        return jax.lax.scan(layer, x, weights)[0]

    x = jax.ShapeDtypeStruct((8, 64), jnp.float32, sharding=batch)
    weights = jax.ShapeDtypeStruct((5, 64, 64), jnp.float32, sharding=rows)
    text = jax.jit(function, out_shardings=batch).lower(x, weights).compile().as_text()
    once, _ = measure_traffic(Module(text), hosts=[0] * 8)
    gathered = 5 * 64 * 64 * 4
    assert sum(once.by_kind.values()) == pytest.approx(gathered * 7 / 8, rel=0.3)


# A decode step as a compiler for TPUs fuses it: the cache is renamed in a fusion of its own, then multiplied.
FUSED_TEXT = """HloModule jit_step

%rename (c: bf16[8,64]) -> bf16[512] {
  %c = bf16[8,64]{1,0} parameter(0)
  ROOT %flat = bf16[512]{0} bitcast(%c)
}

%attend (slot: s32[], cache: bf16[8,64], query: bf16[512]) -> bf16[512] {
  %query = bf16[512]{0} parameter(2)
  %cache = bf16[8,64]{1,0} parameter(1)
  %slot = s32[] parameter(0)
  %renamed = bf16[512]{0} fusion(%cache), kind=kLoop, calls=%rename
  ROOT %scores = bf16[512]{0} multiply(%query, %renamed)
}

%write (cache.1: bf16[8,64], row: bf16[1,64], at: s32[]) -> bf16[8,64] {
  %cache.1 = bf16[8,64]{1,0} parameter(0)
  %row = bf16[1,64]{1,0} parameter(1)
  %at = s32[] parameter(2)
  ROOT %written = bf16[8,64]{1,0} dynamic-update-slice(%cache.1, %row, %at, %at)
}

ENTRY %main (keys: bf16[8,64], new: bf16[1,64], q: bf16[512], i: s32[]) -> bf16[512] {
  %keys = bf16[8,64]{1,0} parameter(0)
  %new = bf16[1,64]{1,0} parameter(1)
  %q = bf16[512]{0} parameter(2)
  %i = s32[] parameter(3)
  %updated = bf16[8,64]{1,0} fusion(%keys, %new, %i), kind=kLoop, calls=%write
  ROOT %out = bf16[512]{0} fusion(%i, %updated, %q), kind=kLoop, calls=%attend
}
"""


def test_a_cache_is_written_by_the_slot_and_read_as_a_whole():
    once, _ = measure_traffic(Module(FUSED_TEXT), hosts=[0])
    cache, row, index = 8 * 64 * 2, 64 * 2, 4
    write = row + index + row
    attend = cache + cache + cache  # cache and queries in, as many scores out
    assert once.memory == write + attend


def test_a_row_scattered_into_pages_counts_as_the_row_and_one_loaded_onto_the_chip_as_read():
    text = """HloModule jit_write

%write (pages.1: bf16[8,64], at: s32[1], row: bf16[1,64]) -> bf16[8,64] {
  %pages.1 = bf16[8,64]{1,0} parameter(0)
  %at = s32[1]{0} parameter(1)
  %row = bf16[1,64]{1,0} parameter(2)
  ROOT %written = bf16[8,64]{1,0} scatter(%pages.1, %at, %row), to_apply=%last
}

ENTRY %main (pages: bf16[8,64], i: s32[1], new: bf16[1,64]) -> bf16[8,64] {
  %pages = bf16[8,64]{1,0} parameter(0)
  %i = s32[1]{0} parameter(1)
  %new = bf16[1,64]{1,0} parameter(2)
  %near = bf16[2,64]{1,0:S(1)} slice(%pages), slice={[0:2], [0:64]}
  ROOT %updated = bf16[8,64]{1,0} fusion(%pages, %i, %new), kind=kLoop, calls=%write
}
"""
    once, _ = measure_traffic(Module(text), hosts=[0])
    row, index = 64 * 2, 4
    assert once.memory == (row + index + row) + 2 * row


def test_a_kernel_for_pages_reads_a_share_of_the_pool():
    text = """HloModule jit_decode

ENTRY %main (pages: bf16[8,64], query: f32[4]) -> f32[16] {
  %pages = bf16[8,64]{1,0} parameter(0)
  %query = f32[4]{0} parameter(1)
  ROOT %mixed = f32[16]{0} custom-call(%query, %pages), custom_call_target="K", metadata={op_name="jit(a)/NAME/b"}
}
"""

    def memory(name):
        return measure_traffic(Module(text.replace("NAME", name)), hosts=[0], page_share=0.25)[0].memory

    pages, query, mixed = 8 * 64 * 2, 4 * 4, 16 * 4
    assert memory("attention_pages") == 0.25 * (pages + query) + mixed
    assert memory("attention_forward") == pages + query + mixed
