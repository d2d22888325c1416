import json

import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.loading import load_benchmark
from phi4r.evals.benchmarks.mmlu_pro import MMLU_PRO

TEN = [f"{number} m" for number in range(10)]


def row(**changes) -> dict:
    values = {"question_id": 70, "question": "How high?", "options": TEN, "answer": "J", "answer_index": 9}
    return {**values, "cot_content": "", "category": "physics", "src": "x", **changes}


def test_a_row_becomes_a_question_with_its_options_in_their_order():
    problem = MMLU_PRO.read(row(), "f:1")
    assert json.loads(problem.answer) == {"letter": "J", "options": TEN}
    assert problem.prompt.startswith("How high?\n\nA. 0 m\nB. 1 m\n") and "\nJ. 9 m\n\n" in problem.prompt
    assert (problem.id, problem.meta) == ("70", {"category": "physics"})
    verifier = MMLU_PRO.make_verifier(False)
    assert verifier("The answer is (J).", problem.answer).correct
    assert not verifier("The answer is (I).", problem.answer).correct


@pytest.mark.parametrize(
    ("changes", "letter", "options"),
    [
        ({"options": ["1", "2", "3"], "answer": "B", "answer_index": 1}, "B", ["1", "2", "3"]),
        ({"options": ["1 ", "2", "N/A", "N/A"], "answer": "B", "answer_index": 1}, "B", ["1", "2"]),
        ({"options": ["1", "N/A", "N/A"], "answer": "B", "answer_index": 1}, "B", ["1", "N/A"]),
        ({"options": ["1", "2"], "answer": "A", "answer_index": 0, "question_id": None}, "A", ["1", "2"]),
    ],
)
def test_fewer_options_and_padding_are_taken_as_they_are_meant(changes, letter, options):
    assert json.loads(MMLU_PRO.read(row(**changes), "f:1").answer) == {"letter": letter, "options": options}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "A"}, "f:1: 'answer' 'A' and 'answer_index' 9"),
        ({"answer": "K", "answer_index": 10}, "name no one option of 10"),
        ({"answer": "9 m", "answer_index": 9}, "name no one option"),
        ({"options": "A. 1 B. 2"}, "list of texts, not str"),
        ({"options": [1, 2]}, "list of texts"),
        ({"options": ["1"], "answer": "A", "answer_index": 0}, "f:1 has 1 options"),
        ({"options": [*TEN, "10 m"]}, "has 11 options"),
        ({"category": None}, "'category'"),
    ],
)
def test_malformed_rows_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        MMLU_PRO.read(row(**changes), "f:1")


def test_the_hubs_parquet_is_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [row(question_id=number, question=f"How high is {number}?") for number in range(5)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "test-00000-of-00001.parquet")
    loaded = load_benchmark(MMLU_PRO, str(tmp_path))
    assert [problem.id for problem in loaded.problems] == list("01234") and not loaded.malformed
