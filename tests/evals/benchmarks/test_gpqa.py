import collections
import json

import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.gpqa import GPQA_DIAMOND
from phi4r.evals.benchmarks.loading import load_benchmark


def row(number: int = 1, **changes) -> dict:
    return {
        "Question": f"What is {number} + {number}?\n",
        "Correct Answer": f"{2 * number}\n",
        "Incorrect Answer 1": f"{2 * number + 1}",
        "Incorrect Answer 2": f"{2 * number + 2}",
        "Incorrect Answer 3": f"{2 * number + 3}",
        "Subdomain": "Sums",
        "High-level domain": "Mathematics",
        "Record ID": f"rec{number}",
        **changes,
    }


def test_a_row_becomes_a_question_with_four_options():
    problem = GPQA_DIAMOND.read(row(), "f:1")
    reference = json.loads(problem.answer)
    assert sorted(reference["options"]) == ["2", "3", "4", "5"]
    assert reference["options"]["ABCD".index(reference["letter"])] == "2"
    lines = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", reference["options"], strict=True))
    assert problem.prompt.startswith(f"What is 1 + 1?\n\n{lines}\n\n") and problem.prompt.endswith("\\boxed{A}.")
    assert (problem.id, problem.meta) == ("rec1", {"domain": "Mathematics", "subdomain": "Sums"})
    verifier = GPQA_DIAMOND.make_verifier(True)
    assert verifier(f"</think>\\boxed{{{reference['letter']}}}", problem.answer).correct


def test_the_order_of_the_options_depends_on_the_question_alone():
    order = json.loads(GPQA_DIAMOND.read(row(), "f:1").answer)["options"]
    other = row(**{"Record ID": "x", "Subdomain": "y", "Incorrect Answer 1": "nine"})
    other = json.loads(GPQA_DIAMOND.read(other, "g:7").answer)["options"]
    assert [option if option != "nine" else "3" for option in other] == order
    letters = [json.loads(GPQA_DIAMOND.read(row(n), "f:1").answer)["letter"] for n in range(400)]
    assert all(70 < count < 130 for count in collections.Counter(letters).values()) and set(letters) == set("ABCD")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Question": None}, "f:1 has no 'Question'"),
        ({"Incorrect Answer 3": ""}, "'Incorrect Answer 3' is empty"),
        ({"Incorrect Answer 2": "2"}, "'Correct Answer' is one of the incorrect ones"),
        ({"High-level domain": None}, "'High-level domain'"),
    ],
)
def test_malformed_rows_are_named_but_not_quoted(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        GPQA_DIAMOND.read(row(**changes), "f:1")
    assert "What is" not in str(caught.value)


def test_the_hubs_csv_is_read(tmp_path):
    names = list(row())
    lines = [",".join(names), *(",".join(str(row(n)[name]).strip() for name in names) for n in range(3))]
    (tmp_path / "gpqa_diamond.csv").write_text("\n".join(lines))
    loaded = load_benchmark(GPQA_DIAMOND, str(tmp_path))
    assert [problem.id for problem in loaded.problems] == ["rec0", "rec1", "rec2"] and not loaded.malformed
