import time

import pytest

from phi4r.verifiers.tagged import last_tag, read_literal, tagged_answer


def tag(content: str) -> str:
    return f"<final_answer>{content}</final_answer>"


@pytest.mark.parametrize(
    ("response", "value"),
    [
        (tag("{'Path': '0->1->0'}"), "0->1->0"),
        (tag('{"Path": "0->1->0", "TotalDistance": 7}'), "0->1->0"),
        (tag("\n {'Path':\n ' 0->1->0 '} \n"), "0->1->0"),
        (tag("{'Path': [0, 1, 0]}"), "0, 1, 0"),
        (tag("{'Path': (True, 'x')}"), "True, x"),
        (tag("'0->1->0'"), "0->1->0"),
        (tag("{'Path': 'old'}") + " no: " + tag("{'Path': 'new'}"), "new"),
        (tag("{'Path': 'old'}") + "<final_answer>{'Path': 'cut off", "old"),
        (tag("{'Path': 'old'}") + "</final_answer>", "old"),
        (tag(tag("{'Path': 'inner'}")), "inner"),
        ("<think>" + tag("{'Path': 'thought'}") + "</think>" + tag("{'Path': 'said'}"), "said"),
        (r"\boxed{abca}", "abca"),
        (r"\boxed{old} \boxed{abca}", "abca"),
        (tag("{'Path': 'tag'}") + r"\boxed{box}", "tag"),
    ],
)
def test_the_last_closed_tag_counts_and_else_the_last_box(response, value):
    found = tagged_answer(response, "Path")
    assert (found.value, found.text) == (value, value)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "0->1->0",
        "{'Path'}",
        "{'Way': '0->1->0'}",
        "{'path': '0->1->0'}",
        "{'Path': None}",
        "{'Path': {'Path': 'x'}}",
        "{'Path': [[0], 1]}",
        "{'Path': '0' + '1'}",
        "{'Path': f'0'}",
        "{'Path': b'0->1->0'}",
        "{[]: 1}",
        "dict(Path='0->1->0')",
        "__import__('os').getcwd()",
        "{'Path': '0->1->0'} is it",
        "{'Path': '\\x30'}",
        "{'Path': '\x00'}",
        "{'Path': '\ud800'}",
        "{'Path': [" + "9" * 65 + "]}",
        "{'Path': [" + "9_" * 33 + "9]}",
        "{'Path': '" + "x" * 1000 + "'}",
        "{'Path': " + "[" * 6 + "]" * 6 + "}",
        "-" * 900 + "1",
        "1" + "+1" * 450,
        "not " * 240 + "1",
        "a" + ".a" * 450,
    ],
)
def test_a_tag_that_holds_no_such_dict_is_an_answer_without_a_value(content):
    found = tagged_answer(tag(content), "Path")
    assert (found.value, found.text) == (None, content)


@pytest.mark.parametrize("response", ["", "0->1->0", "<final_answer>", "</final_answer>", "\\boxed{", "<FINAL_ANSWER>"])
def test_a_response_without_tag_and_box_has_no_answer(response):
    assert tagged_answer(response, "Path") is None


def test_a_thought_that_was_cut_off_has_no_answer_yet():
    response = "<think>" + tag("{'Path': 'x'}")
    assert tagged_answer(response, "Path", thinking=True) is None
    assert tagged_answer(response, "Path", thinking=False).value == "x"
    assert tagged_answer(response + "</think>", "Path", thinking=False) is None
    assert tagged_answer(response + "</think>" + tag("{'Path': 'y'}"), "Path", thinking=True).value == "y"


def test_literals_within_the_limits_are_read():
    assert read_literal("{'a': [1, -2, 2.5, True, None, 'x']}") == {"a": [1, -2, 2.5, True, None, "x"]}
    assert read_literal("9" * 64) == 10**64 - 1
    assert read_literal("[" * 5 + "]" * 5) == [[[[[]]]]]
    assert last_tag("a" + tag(" b ") + "c") == "b"


HOSTILE = [
    "<final_answer>" * 70_000,
    tag("[" * 1_000_000),
    tag("9" * 1_000_000),
    tag("{'Path': '" + "->" * 500_000 + "'}"),
    "\\boxed{" * 140_000,
    "\\boxed{" * 70_000 + "}" * 70_000,
    r"\boxed{" + "x" * 1_000_000 + "}",
    "<" * 1_000_000,
    "<final_answer>" + "</final_answer" * 70_000,
    "\ud800" * 1_000_000,
    "\x00\x1b" * 500_000,
]


@pytest.mark.parametrize("response", HOSTILE)
def test_a_megabyte_of_anything_takes_little_time(response):
    start = time.process_time()
    found = tagged_answer(response, "Path")
    assert time.process_time() - start < 1.0
    assert found is None or found.value is None or found.value == ""
