import json

import pytest

from phi4r.data.records import Problem, Trace, read_jsonl, training_messages, write_jsonl
from phi4r.errors import UserError

PROBLEM = Problem("p1", "1 + 1 = ?", "2", {"year": 2024, "tags": ["é"]})
TRACE = Trace("t1", "1 + 1 = ?", "one\nand one", " So \\boxed{2}", "2", {})


def test_the_tags_of_a_trace_take_no_blank_and_no_newline():
    assert TRACE.messages() == [
        {"role": "user", "content": "1 + 1 = ?"},
        {"role": "assistant", "content": "<think>one\nand one</think> So \\boxed{2}"},
    ]


@pytest.mark.parametrize(("record_type", "record"), [(Problem, PROBLEM), (Trace, TRACE)])
def test_records_survive_a_file(tmp_path, record_type, record):
    path = tmp_path / "new" / "rows.jsonl"
    write_jsonl(path, [record, record])
    assert read_jsonl(path, record_type) == [record, record]
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[0]) == record.to_dict()


def test_keys_that_a_record_does_not_know_are_kept_in_meta():
    row = {"id": "a", "prompt": "p", "answer": "x", "source": "web", "meta": {"year": 1}}
    assert Problem.from_dict(row).meta == {"source": "web", "year": 1}


def test_whole_numbers_may_stand_for_text():
    problem = Problem.from_dict({"id": 7, "prompt": "p", "answer": 113})
    assert (problem.id, problem.answer) == ("7", "113")


def test_a_row_without_an_id_is_named_by_its_prompt_alone():
    first, again, other = (
        Problem.from_dict({"prompt": prompt, "answer": answer})
        for prompt, answer in [("p", "1"), ("p", "2"), ("q", "1")]
    )
    assert first.id == again.id != other.id


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "p"}', "rows.jsonl:3 has no 'answer': give each row an answer (this one has: prompt)."),
        ('{"prompt": "p", "answer": null}', "rows.jsonl:3 has no 'answer'"),
        ('{"answer": "1"}', "rows.jsonl:3 has no 'prompt': give each row a prompt"),
        ('{"prompt": "p", "answer": " "}', "rows.jsonl:3: 'answer' is empty"),
        ('{"prompt": "p", "answer": 1.5}', "rows.jsonl:3: 'answer' must be text, not 1.5"),
        ('{"prompt": "p", "answer": "1", "meta": 3}', "rows.jsonl:3: 'meta' must be an object"),
        ('{"prompt": "p"', "rows.jsonl:3 is not valid JSON"),
        ('["p"]', "rows.jsonl:3 must be a JSON object"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "p", "answer": "1"}\n\n' + line + "\n")
    with pytest.raises(UserError) as caught:
        read_jsonl(path, Problem)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_utf8_are_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "\xff"}\n')
    with pytest.raises(UserError, match=r"rows\.jsonl:1 is not valid JSON"):
        read_jsonl(path, Problem)


@pytest.mark.parametrize("content", [None, "", "\n\n"])
def test_a_missing_or_empty_file_is_refused(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match="there is no file" if content is None else "has no rows"):
        read_jsonl(path, Problem)


@pytest.mark.parametrize("missing", ["prompt", "thought", "solution", "answer"])
def test_a_trace_needs_all_its_parts(missing):
    row = {key: value for key, value in TRACE.to_dict().items() if key != missing}
    with pytest.raises(UserError, match=f"row 5 has no '{missing}'"):
        training_messages(row, where="row 5")


def test_only_the_answer_of_a_trace_may_be_empty():
    assert Trace.from_dict({**TRACE.to_dict(), "answer": ""}).answer == ""
    with pytest.raises(UserError, match="'thought' is empty"):
        Trace.from_dict({**TRACE.to_dict(), "thought": ""})


def test_training_rows_are_traces_or_conversations():
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "<think>x</think>y"}]
    assert training_messages({"messages": messages}) == messages
    assert training_messages(TRACE.to_dict()) == TRACE.messages()


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "at least one message"),
        ("hi", "at least one message"),
        ([{"role": "user"}], "message 0 must be"),
        ([{"role": "user", "content": None}], "message 0 must be"),
        ([{"role": "user", "content": "hi"}], "the last message is of role 'user'"),
    ],
)
def test_a_malformed_conversation_is_refused(messages, message):
    with pytest.raises(UserError, match=message):
        training_messages({"messages": messages}, where="row 5")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [PROBLEM])

    def rows():
        yield TRACE
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_jsonl(path, rows())
    assert list(tmp_path.iterdir()) == [path]
    assert read_jsonl(path, Problem) == [PROBLEM]


def test_an_unwritable_folder_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_jsonl(tmp_path / "file" / "rows.jsonl", [PROBLEM])
