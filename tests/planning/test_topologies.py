import pytest

from phi4r.errors import UserError
from phi4r.planning.topologies import CHIPS, GIB, Topology, known_names, parse_topology


@pytest.mark.parametrize(
    ("text", "chip", "shape", "num_devices"),
    [
        ("v5p:4x4x4", "v5p", (4, 4, 4), 64),
        ("v5e:16x16", "v5e", (16, 16), 256),
        ("V6E:2x4", "v6e", (2, 4), 8),
        ("h100:8", "h100", (1, 8), 8),
        ("h100:4x8", "h100", (4, 8), 32),
        ("cpu:8", "cpu", (8,), 8),
    ],
)
def test_names_are_read(text, chip, shape, num_devices):
    topology = parse_topology(text)
    assert topology == Topology(chip, shape)
    assert topology.num_devices == num_devices
    assert parse_topology(topology.name) == topology


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("v7x:2x2", ["not a known topology", "v5e:2x2", "v5p:2x2x1", "v6e:16x16", "h100:N", "b200", "cpu:1"]),
        ("h10:8", ["Did you mean h100?"]),
        ("h100", ["not a known topology", "h100:HxN"]),
        ("v5p:3x3x3", ["not a known size of v5p", "v5p:4x4x4"]),
        ("v5p:4x4", ["not a known size", "v5p:2x2x4"]),
        ("h100:9", ["not a known size", "N = 1, 2, 4, 8"]),
        ("h100:0x8", ["not a known size"]),
        ("cpu:1000", ["cpu:1 ... cpu:64"]),
    ],
)
def test_unknown_names_list_the_known_ones(text, parts):
    with pytest.raises(UserError) as raised:
        parse_topology(text)
    assert all(part in str(raised.value) for part in parts)
    assert "\n" not in str(raised.value)


def test_every_listed_tpu_slice_is_known():
    for chip in ("v5e", "v5p", "v6e"):
        for name in known_names(chip).split(", "):
            assert parse_topology(name).chip == chip


def test_an_h100_leaves_room_for_what_is_not_ours():
    # 79.1 GiB of the device, of which the launch scripts let JAX take 92%.
    assert CHIPS["h100"].hbm_gib == pytest.approx(0.92 * 84_942_979_072 / GIB)
    assert 70 < CHIPS["h100"].hbm_gib < 75
