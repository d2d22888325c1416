import time

import pytest

from phi4r.verifiers.boolean import BooleanVerifier, boolean_answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("True", "true"),
        ("false.", "false"),
        ("**FALSE**", "false"),
        ("_True_", "true"),
        ("It is not true", "false"),
        ("It isn't true.", "false"),
        ("This cannot be true", "false"),
        ("That is not necessarily true", "false"),
        ("This is not false.", "true"),
        ("untrue", "false"),
        ("not untrue", "true"),
        ("At first it looks true, but it is false.", "false"),
        ("Is it true or false? It is true.", "true"),
        (r"\boxed{False}. Were he older, it would be true.", "false"),
        (r"\boxed{\text{True}}", "true"),
        (r"The box \boxed{3} says nothing: false", "false"),
        ("truly falsehood construe", None),
        ("knot true", "true"),
        ("I cannot say.", None),
        ("", None),
    ],
)
def test_the_last_true_or_false_counts_and_a_negation_turns_it(response, answer):
    assert boolean_answer(response) == answer
    verdict = BooleanVerifier()(response, "true")
    assert (verdict.correct, verdict.answer) == (answer == "true", answer)
    assert verdict.status == ("ok" if answer else "no_answer")


def test_the_reference_is_read_in_any_case_and_a_malformed_one_is_an_error():
    assert BooleanVerifier()("false", " False ").correct
    assert BooleanVerifier()("false", "no").status == "error"


def test_a_thinking_model_is_judged_by_what_follows_its_thought():
    verifier = BooleanVerifier(thinking=True)
    assert verifier("<think>true", "true").status == "no_answer"
    assert verifier("<think>true</think>false", "false").correct
    assert verifier("<think>true</think>Well.", "true").status == "no_answer"
    assert BooleanVerifier()("<think>true", "true").correct


@pytest.mark.parametrize(
    "hostile",
    [
        "not " * 250_000,
        "not" + " " * 1_000_000,
        "not necessarily " * 60_000,
        "un" * 500_000,
        r"\boxed{" * 140_000,
        "\ud800\x00" * 300_000,
    ],
)
def test_hostile_answers_take_bounded_time(hostile):
    started = time.perf_counter()
    assert BooleanVerifier()(hostile, "true").status == "no_answer"
    assert boolean_answer("true " * 200_000 + hostile) == "true"
    assert time.perf_counter() - started < 3.0
