import json
import time

import pytest

from phi4r.verifiers.code.function_driver import report_of
from phi4r.verifiers.code.outputs import is_zero_of, same_report


def _same(right, value, atol=0.0):
    return same_report(report_of(right).encode(), report_of(value).encode(), atol=atol)


@pytest.mark.parametrize(
    "right, value",
    [
        (1, 1.0),
        (1, True),
        (0, False),
        ([1, 2], [1.0, 2]),
        ({1, 2, 3}, {3, 2, 1}),
        ({1, (2, "a")}, frozenset([(2.0, "a"), 1])),
        ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}),
        ({1: None}, {1.0: None}),
        ({frozenset([1, 2])}, {frozenset([2, 1])}),
        (float("nan"), float("nan")),
        ([float("nan"), 1.0], [float("nan"), 1]),
        ([0.1 + 0.2, float("inf"), float("nan")], [0.3, float("inf"), float("nan")]),
        (2**5000, 2**5000),
        (b"a", bytearray(b"a")),
        (1 + 2j, 1 + 2j),
        (0.3, 0.1 + 0.2),
        ([0.3, 1e9], [0.1 + 0.2, 1e9 + 90.0]),
        ((0.5, 0.25), (0.5000009, 0.25)),
        (list(range(20_000)), [float(n) for n in range(20_000)]),
    ],
)
def test_equal_outputs_are_the_same(right, value):
    assert _same(right, value) and _same(value, right)


@pytest.mark.parametrize(
    "right, value",
    [
        (1, 2),
        (1, "1"),
        (None, 0),
        (None, False),
        ([], None),
        ([1, 2], (1, 2)),
        ([1, 2], [1, 2, 3]),
        ([1, 2], [2, 1]),
        ({1}, [1]),
        ({1, 2}, {1}),
        ({1: 2}, {1: 3}),
        ({1: 2}, {2: 2}),
        ({1: 2}, {(1, 2)}),
        ("", []),
        ({}, set()),
        (2**5000, 2**5000 + 1),
        (b"a", "61"),
        (0.3, 0.30001),
        (2, 2.0000001),
        (2.0000001, 2),
        ([0.3, 1], [0.3000001, 1]),
        ((0.3,), [0.3000001]),
        (0.3, float("nan")),
        (1e308, float("inf")),
        ([0.5, float("inf")], [0.5, float("-inf")]),
        ([0.5, float("nan")], [0.5, 0.5]),
        (list(range(20_000)), list(range(20_001))),
    ],
)
def test_outputs_that_differ_are_not_the_same(right, value):
    assert not _same(right, value) and not _same(value, right)


def test_the_tolerance_of_a_task_holds_for_its_numbers():
    assert _same(1.0, 1.009, atol=0.01)
    assert not _same(1.0, 1.02, atol=0.01)
    assert not _same(1.0, 1.0000005, atol=1e-7)
    assert _same([1, 2.5], [1, 2.505], atol=0.01)


def test_what_is_not_comparable_is_never_the_same():
    assert not same_report(b'{"other": "map"}', b'{"other":"map"}')


HOSTILE = [
    b"",
    b"\xff\xfe",
    b"tru",
    b"[" * 10**6,
    b"[" * 50_000 + b"]" * 50_000,
    b'{"set":' * 10**5,
    b"9" * 10**6,
    b"9" * 4000,
    b"[" + b"9" * 4000 + b", 1]",
    b"1e999999999",
    b"-1E-999999999",
    b'"' + b"x" * 10**6 + b'"',
    b'{"dict": 5}',
    b'{"dict": [1]}',
    b'{"dict": [[1]]}',
    b'{"dict": [[[], 1]]}',
    b'{"set": [[1]]}',
    b'{"set": [{"set": {}}]}',
    b'{"tuple": null}',
    b'{"tuple": {"tuple": 1}}',
    b'{"int": 5}',
    b"{}",
    b'{"set": [], "dict": []}',
    b'{"complex": ["x"]}',
    b'{"correct": true, "status": "pass"}',
    b"true",
]


@pytest.mark.parametrize("right", [2, 0.5, [1.5, 2.5], (1,), {1, 2}, {1: 2}, "x", 2**600, b"z", 1j, {(1, 2)}])
def test_hostile_reports_are_wrong_and_cost_little(right):
    start = time.perf_counter()
    assert not any(same_report(report_of(right).encode(), report) for report in HOSTILE)
    assert not any(is_zero_of([1.0, 1.0], report, atol=1e-4) for report in HOSTILE)
    assert time.perf_counter() - start < 2


def test_keys_with_one_hash_are_not_all_put_into_a_table():
    modulus = 2**61 - 1
    attack = json.dumps({"set": [modulus * n for n in range(1, 20_000)]}).encode()
    start = time.perf_counter()
    assert not same_report(b'{"set": [1, 2]}', attack)
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    "report, zero",
    [
        (b"2.0", True),
        (b"3", True),
        (b"2.00001", True),
        (b"2.1", False),
        (b"NaN", False),
        (b"Infinity", False),
        (b"1e300", False),
        (b"true", False),
        (b'"2"', False),
        (b"[2]", False),
        (b"null", False),
    ],
)
def test_any_zero_of_a_polynomial_is_right(report, zero):
    assert is_zero_of([6, -5, 1], report, atol=1e-4) is zero  # (x - 2)(x - 3)
