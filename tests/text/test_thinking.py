import pytest

from phi4r.text.thinking import ResponseParts, split_response, think_format_ok, think_format_ok_ids

SPLITS = {
    "<think>a</think>b": ("a", "b"),
    "<think>a</think>b</think>c": ("a</think>b", "c"),
    "<think>a<think>b</think>c": ("a<think>b", "c"),
    "<think>unfinished": ("unfinished", ""),
    "no tags at all": ("", "no tags at all"),
    "a</think>b": ("a", "b"),
    "x<think>a</think>b": ("a", "b"),
    "</think>a<think>": ("", "a<think>"),
    "": ("", ""),
}

# Section 4.1: missing or misused, that is absent, more than once, or out of order.
FORMATS = {
    "<think>a</think>b": True,
    "x<think></think>": True,
    "<think>a": False,
    "a</think>b": False,
    "b": False,
    "</think><think>": False,
    "<think><think></think>": False,
    "<think></think></think>": False,
    "<think>a</think><think>b</think>": False,
    "<THINK>a</THINK>": False,
}


@pytest.mark.parametrize("text", SPLITS)
def test_the_solution_follows_the_last_closing_tag(text):
    assert split_response(text) == ResponseParts(*SPLITS[text])


@pytest.mark.parametrize("text", FORMATS)
def test_the_think_block_is_judged_on_text(text):
    assert think_format_ok(text) is FORMATS[text]


@pytest.mark.parametrize("text", FORMATS)
def test_the_think_block_is_judged_alike_on_ids(text):
    marks = text.replace("</think>", "\x02").replace("<think>", "\x01")
    assert think_format_ok_ids([ord(mark) for mark in marks], think_id=1, end_think_id=2) is FORMATS[text]
