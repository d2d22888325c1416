import pyarrow
import pyarrow.parquet
import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.hmmt import HMMT_FEB_2025
from phi4r.evals.benchmarks.loading import load_benchmark


def test_the_hubs_own_file_is_read(tmp_path):
    rows = [
        {"problem_idx": 1, "problem": "Sum?", "answer": "103", "problem_type": ["Number Theory"]},
        {"problem_idx": 2, "problem": "Area?", "answer": r"\frac{1}{2}", "problem_type": ["Algebra", "Geometry"]},
        {"problem_idx": 3, "problem": "Root?", "answer": r"2\sqrt{2}", "problem_type": []},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "train-00000-of-00001.parquet")
    problems, malformed = load_benchmark(HMMT_FEB_2025, str(tmp_path))
    assert [(p.id, p.answer, p.meta) for p in problems] == [
        ("1", "103", {"subject": "Number Theory"}),
        ("2", r"\frac{1}{2}", {"subject": "Algebra and Geometry"}),
        ("3", r"2\sqrt{2}", {}),
    ]
    assert problems[0].prompt.startswith("Sum?\n\n")
    assert malformed == ()
    assert HMMT_FEB_2025.make_verifier(False)(r"\boxed{\sqrt{8}}", problems[2].answer).correct


def test_a_row_without_an_answer_is_malformed():
    with pytest.raises(UserError, match="f:1 has no 'answer' or 'expected_answer'"):
        HMMT_FEB_2025.read({"problem": "Sum?"}, "f:1")
