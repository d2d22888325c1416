import collections
import enum
import json
import math

import pytest

from phi4r.verifiers.code.function_driver import encode, normal, report_of


class Liar(int):
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0

    def __index__(self):
        return 7

    def __iter__(self):
        return iter([1])


class Colour(enum.IntEnum):
    RED = 3


Pair = collections.namedtuple("Pair", "x y")


@pytest.mark.parametrize(
    "value, encoded",
    [
        (None, None),
        (True, True),
        (5, 5),
        (1.5, 1.5),
        ("a\ud800", "a\ud800"),
        ([1, [2]], [1, [2]]),
        ((1, [2]), {"tuple": [1, [2]]}),
        ({3}, {"set": [3]}),
        (frozenset([3]), {"frozenset": [3]}),
        ({1: "a", (1, 2): None}, {"dict": [[1, "a"], [{"tuple": [1, 2]}, None]]}),
        (2**600, {"int": hex(2**600)}),
        (-(2**600), {"int": hex(-(2**600))}),
        (2**5000, {"int": hex(2**5000)}),
        (1 - 2j, {"complex": [1.0, -2.0]}),
        (b"\xff\x00", {"bytes": "ff00"}),
        (bytearray(b"a"), {"bytes": "61"}),
        (Liar(5), 5),
        (Colour.RED, 3),
        (Pair(1, 2), {"tuple": [1, 2]}),
        (collections.Counter("aab"), {"dict": [["a", 2], ["b", 1]]}),
        (range(3), {"other": "range"}),
        (map(str, []), {"other": "map"}),
        (object(), {"other": "object"}),
    ],
)
def test_values_become_json_by_their_builtin_type(value, encoded):
    assert encode(value) == encoded
    assert json.loads(json.dumps(encode(value))) == encoded


def test_values_that_json_has_no_end_for_are_refused():
    endless: list = []
    endless.append(endless)
    with pytest.raises(ValueError, match="deeply"):
        encode(endless)


@pytest.mark.parametrize(
    "one, other",
    [
        ([1, 2.0, True], [True, 2, 1.0]),
        ({1, (2, 3.0), "a"}, frozenset(["a", (2.0, 3), 1.0])),
        ({"a": 1, 2: [0.0]}, {2.0: [-0.0], "a": 1.0}),
        (1e300, int(1e300)),
        ([0.5, math.inf], [0.5, math.inf]),
    ],
)
def test_equal_values_have_one_normal_form(one, other):
    assert one == other
    assert json.dumps(normal(encode(one))) == json.dumps(normal(encode(other)))


@pytest.mark.parametrize("one, other", [((1,), [1]), ("1", 1), ({1}, [1]), (0.1 + 0.2, 0.3), (None, 0), ({}, set())])
def test_values_that_differ_have_two(one, other):
    assert json.dumps(normal(encode(one))) != json.dumps(normal(encode(other)))


def test_long_values_are_reported_as_a_digest():
    short, long = list(range(10_000)), list(range(20_000))
    assert json.loads(report_of(short)) == short
    assert list(json.loads(report_of(long))) == ["sha256"]
    assert report_of(long) == report_of(list(map(float, long))) != report_of([*long[:-1], 0])
    assert report_of(long) != report_of(tuple(long))
