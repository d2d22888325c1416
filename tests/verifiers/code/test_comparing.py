import pytest

from phi4r.verifiers.code.comparing import same_output, same_value


@pytest.mark.parametrize(
    "expected, written, same",
    [
        ("3\n", "3", True),
        ("3", "  3  \n\n", True),
        ("1 2\n3", "1 2 \n 3", True),
        ("YES", "Yes", False),
        ("1 2", "1  2", True),  # as numbers
        ("a b", "a  b", False),
        ("0.5", "0.50", True),
        ("1.0", "1", True),
        ("1e3", "1000", True),
        ("0.333333", "0.3333333", False),  # no tolerance
        ("1\n2", "1 2", False),
        ("1\n\n2", "1\n2", False),
        ("1", "1\n2", False),
        ("", "\n", True),
        ("1", "", False),
        ("nan", "NaN", False),
        ("inf", "Infinity", False),
        ("1" * 65, "1" * 65, True),
        ("1" * 65, "1" * 65 + ".0", False),  # too long to be a number
        ("5", "\uff15", False),  # a digit, but no ASCII one
        ("1e5", "1e9999999999", False),
        ("1000", "1_000", False),
    ],
)
def test_outputs_are_compared_by_lines_and_then_by_numbers(expected, written, same):
    assert same_output(expected, written) is same


@pytest.mark.parametrize(
    "expected, report, same",
    [
        (3, b"[3]", True),
        ([1, [2, "a"]], b'[[1,[2,"a"]]]', True),
        (1.5, b"[1.5]", True),
        (3, b"[4]", False),
        (3, b"3", False),
        (3, b"[3,3]", False),
        (None, b"[]", False),
        (None, b"[null]", True),
        (0.1, b"[0.10000000000000001]", True),  # the same double
        (3, b"[" * 100_000, False),
        (3, b"[" * 500 + b"]" * 500, False),
        (3, b"[" + b"9" * 10_000 + b"]", False),
        (3, b"\xff\xfe", False),
        (3, b"", False),
        ("a", b"['a']", False),
    ],
)
def test_a_report_holds_the_value_as_json_or_fails(expected, report, same):
    assert same_value(expected, report) is same


def test_a_megabyte_of_either_is_compared_in_passing():
    lines = "\n".join(str(i) for i in range(150_000))
    assert same_output(lines, lines + "\n")
    assert not same_output(lines, lines[:-1] + "x")
    assert not same_output("1", "9" * 10**6)
