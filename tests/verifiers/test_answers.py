import time

import pytest

from phi4r.verifiers.answers import final_answer, last_box


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so \boxed{204}", "204"),
        (r"\boxed{100}. Wait, \boxed{204}", "204"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\fbox{7}", "7"),
        (r"\boxed {7}", "7"),
        (r"\boxed{5} and then \boxed{6", "5"),
        (r"\boxed{1} \boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{ 3", None),
        (r"\boxed{x = \boxed{5}}", r"x = \boxed{5}"),
        (r"{\boxed{3}", "3"),
        (r"\boxed{}", None),
        ("The final answer is $\\frac{1}{2}$. I hope it is correct.", r"\frac{1}{2}"),
        ("First the answer: 3.\nNo.\n**Answer:** 4", "4"),
        ("The final answer is 12.5.", "12.5"),
        ("The final answer is: 12\nThanks", "12"),
        ("Final Answer: \\(x=2\\)", "x=2"),
        (r"The final answer is 3, that is \boxed{4}", "4"),
        ("I do not know.", None),
        ("", None),
    ],
)
def test_the_last_balanced_box_counts_and_else_the_last_announcement(response, answer):
    assert final_answer(response) == answer


def test_only_the_text_after_the_last_end_of_thought_counts():
    assert final_answer(r"<think>\boxed{1}</think> or \boxed{2}</think> it is \boxed{3}") == "3"
    assert final_answer(r"<think>\boxed{1}</think> I give up.") is None


def test_a_thinking_model_without_end_of_thought_has_no_answer():
    response = r"<think>It must be \boxed{42}"
    assert final_answer(response, thinking=True) is None
    assert final_answer(response, thinking=False) == "42"


@pytest.mark.parametrize(
    "hostile",
    [r"\boxed{" * 30_000, "{" * 200_000, "}" * 200_000, r"\boxed{1}" * 20_000, "answer: " * 30_000, "\\" * 200_000],
)
def test_extraction_is_linear_in_hostile_text(hostile):
    started = time.perf_counter()
    final_answer(hostile)
    last_box(hostile)
    assert time.perf_counter() - started < 2.0
