import json

import pytest

from phi4r.curation.overlap.protected_texts import ProtectedText, place_of, protected_texts
from phi4r.errors import UserError


@pytest.fixture
def quiz(tmp_path):
    rows = [
        {"id": "q1", "question": "Which?", "choices": {"text": ["one", "two"], "label": ["A", "B"]}, "level": 3},
        {"question": "Why?", "turns": ["first", "second"], "choices": {"text": ["no"]}},
    ]
    path = tmp_path / "quiz.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_named_fields_of_a_file_are_protected(quiz):
    found = list(protected_texts([f"file:{quiz}?fields=question,choices&name=ARC"]))
    assert found == [
        ProtectedText("ARC", "q1", "question", "Which?"),
        *(ProtectedText("ARC", "q1", "choices", text) for text in ("one", "two", "A", "B")),
        ProtectedText("ARC", f"{quiz}:2", "question", "Why?"),
        ProtectedText("ARC", f"{quiz}:2", "choices", "no"),
    ]


def test_without_names_all_text_is_protected_but_short_texts_are_not(quiz):
    found = list(protected_texts([f"file:{quiz}"]))
    assert [text.text for text in found] == ["Which?", "one", "two", "A", "B", "Why?", "first", "second", "no"]
    assert {(text.benchmark, text.whole) for text in found} == {("quiz", False)}


def test_tasks_are_protected_by_their_prompts_and_if_asked_by_answers(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"id": "1", "prompt": "2 + 2?", "answer": "4", "meta": {"solution": "count"}}) + "\n")
    prompt = ProtectedText("own", "1", "prompt", "2 + 2?")
    assert list(protected_texts([f"jsonl:{path}"])) == [prompt]
    assert list(protected_texts([f"jsonl:{path}"], with_solutions=True)) == [
        prompt,
        ProtectedText("own", "1", "answer", "4", whole=False),
        ProtectedText("own", "1", "solution", "count", whole=False),
    ]


def test_several_specs_follow_each_other(quiz):
    found = list(protected_texts([f"file:{quiz}?fields=question", "maze?num=3"]))
    assert [text.benchmark for text in found] == ["quiz", "quiz", "maze", "maze", "maze"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?field=question", "is no file of protected texts; write file:PATH"),
        ("?fields=answer", ":1 has no 'answer' to protect; its fields are id, question"),
        ("?fields=turns", ":1 has no 'turns'"),
    ],
)
def test_fields_that_are_not_there_are_named(quiz, query, message):
    with pytest.raises(UserError, match=message):
        list(protected_texts([f"file:{quiz}{query}"]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"level": 3}\n', "has no text in its rows"),
        ('{"a": "text"}\n{broken\n', "Rows like this, 1 in .*, would not be protected"),
    ],
)
def test_rows_that_would_not_be_protected_are_an_error(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        list(protected_texts([f"file:{path}"]))


def test_the_place_in_a_spec():
    assert [place_of(spec) for spec in ("file:a/b.csv?fields=q", "math_500:data/m", "maze?num=3", "maze")] == [
        "a/b.csv",
        "data/m",
        "",
        "",
    ]
