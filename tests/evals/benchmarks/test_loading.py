import dataclasses
import json
import logging

import pytest
from huggingface_hub import constants

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.loading import load_benchmark
from phi4r.evals.benchmarks.rows import first_of, row_id, text_of
from phi4r.verifiers.exact import IntegerVerifier


def read(row, where):
    """Reads a row; those of another kind are left out."""
    if row.get("kind") == "other":
        return None
    question = text_of(row, ("question",), where)
    return Problem(row_id(row, ("id",), question), question, text_of(row, ("answer", "Answer"), where))


SUMS = Benchmark("sums", "Sums", "owner/sums", "test.jsonl", "MIT", read, IntegerVerifier, num_items=2)


def place(tmp_path, *rows) -> str:
    file = tmp_path / "sums.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(file)


def test_good_rows_are_problems_and_bad_ones_are_named_and_counted(tmp_path, caplog):
    file = place(
        tmp_path,
        {"id": "a", "question": "1+1?", "answer": 2},
        "{broken",
        {"id": "b", "question": "1+2?"},
        {"id": "c", "question": "1+2?", "Answer": "3"},
        {"id": "a", "question": "1+3?", "answer": "4"},
        {"id": "d", "question": "\ud800", "answer": "4"},
        {"kind": "other"},
    )
    with caplog.at_level(logging.INFO):
        problems, malformed = load_benchmark(SUMS, file)
    assert [(p.id, p.answer) for p in problems] == [("a", "2"), ("c", "3")]
    assert [message.split(" ")[0] for message in malformed] == [f"{file}:{line}" for line in (2, 3, 5, 6)]
    assert "has the id 'a' of " in malformed[2] and malformed[2].count(f"{file}:1") == 1
    assert "4 malformed rows were left out" in caplog.text
    assert "1 rows of" in caplog.text and "do not belong to it" in caplog.text
    assert "the published set has" not in caplog.text


def test_only_the_first_malformed_rows_are_logged(tmp_path, caplog):
    file = place(tmp_path, *[{"id": i} for i in range(30)], {"question": "?", "answer": "1"})
    assert len(load_benchmark(SUMS, file).malformed) == 30
    assert len([record for record in caplog.records if record.message.startswith("Malformed")]) == 5
    assert "30 malformed rows" in caplog.text


def test_questions_that_a_set_without_ids_repeats_are_all_asked(tmp_path):
    row = {"question": "1+1?", "answer": "2"}
    problems, malformed = load_benchmark(SUMS, place(tmp_path, row, row, row))
    first = problems[0].id
    assert [p.id for p in problems] == [first, f"{first}-2", f"{first}-3"]
    assert malformed == ()


def test_another_number_than_published_is_said(tmp_path, caplog):
    load_benchmark(SUMS, place(tmp_path, {"question": "1+1?", "answer": "2"}))
    assert "sums: 1 problems in" in caplog.text and "the published set has 2" in caplog.text
    caplog.clear()
    unknown = dataclasses.replace(SUMS, num_items=None)
    load_benchmark(unknown, place(tmp_path, {"question": "1+1?", "answer": "2"}))
    assert not caplog.text


@pytest.mark.parametrize("rows", [[], [{"question": "1+1?"}], ["{"], [{"kind": "other"}]])
def test_nothing_left_is_refused(tmp_path, rows):
    with pytest.raises(UserError, match=r"has no problem of sums: \d rows are malformed"):
        load_benchmark(SUMS, place(tmp_path, *rows))


def test_without_a_place_the_hub_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"huggingface.co/datasets/owner/sums \(licence: MIT\)"):
        load_benchmark(SUMS, None)


def test_a_set_that_is_nowhere_asks_for_a_copy():
    with pytest.raises(UserError, match=r"sums is not on the Hub .* pass your copy as sums:PATH"):
        load_benchmark(dataclasses.replace(SUMS, hub=""), None)


def test_fields_are_found_in_any_of_their_spellings():
    assert first_of({"B": 1}, ("A", "B"), "f:1") == 1
    assert first_of({"A": None, "B": 1}, ("A", "B"), "f:1") == 1
    with pytest.raises(UserError, match="f:1 has no 'A' or 'B' \\(it has: a, b\\)"):
        first_of({"a": 1, "b": 2}, ("A", "B"), "f:1")


@pytest.mark.parametrize(("value", "text"), [("  x \n", "x"), (7, "7"), (7.0, "7")])
def test_text_is_text(value, text):
    assert text_of({"A": value}, ("A",), "f:1") == text


@pytest.mark.parametrize("value", [True, 7.5, ["x"], {}, "", "  ", float("inf")])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(UserError, match=r"f:1: 'A'"):
        text_of({"A": value}, ("A",), "f:1")
