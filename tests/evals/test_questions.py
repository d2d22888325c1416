import pytest

from phi4r.errors import UserError
from phi4r.evals.questions import Question, read_questions


def test_a_text_file_has_a_prompt_a_line(tmp_path):
    (tmp_path / "prompts.txt").write_bytes("one\r\n\n  \ntwo\u2028three\n".encode())
    assert read_questions(tmp_path / "prompts.txt") == [Question(0, "one"), Question(1, "two\u2028three")]


def test_a_jsonl_file_may_have_references_ids_and_prompts_of_several_lines(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text('{"prompt": "a\\nb", "answer": 42}\n\n{"id": "p", "prompt": "c", "level": 5}\n')
    assert read_questions(path) == [Question(0, "a\nb", "42"), Question(1, "c", None, "p")]
    assert read_questions(path)[0].conversation == [{"role": "user", "content": "a\nb"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"prompt": "a"}\n{"answer": "1"}\n', r"problems\.jsonl:2 has no 'prompt'"),
        (b'{"prompt": " "}\n', r"problems\.jsonl:1 has no 'prompt'"),
        (b"a\n", r"problems\.jsonl:1 is not valid JSON"),
        (b"\n\n", "has no prompts"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_files_without_prompts_are_refused(tmp_path, content, message):
    (tmp_path / "problems.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_questions(tmp_path / "problems.jsonl")
