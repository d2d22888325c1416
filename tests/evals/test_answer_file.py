import json

import pytest

from phi4r.errors import UserError
from phi4r.evals.answer_file import AnswerFile

SETTINGS = {"seed": 0, "decoding": {"stop": ("a",)}}


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_come_out_in_the_order_of_the_prompts(tmp_path):
    file = AnswerFile(tmp_path / "new" / "out.jsonl")
    assert file.begin(SETTINGS) == set()
    for number in (2, 0, 1):
        file.add({"number": number, "text": "é\n"})
        assert rows(file.partial)[-1]["number"] == number and not file.path.exists()
    file.finish()
    assert rows(file.path) == [{"number": number, "text": "é\n"} for number in range(3)]
    assert [path.name for path in file.path.parent.iterdir()] == ["out.jsonl"]


def test_an_interrupted_file_goes_on_with_whole_lines_only(tmp_path):
    first = AnswerFile(tmp_path / "out.jsonl")
    first.begin(SETTINGS)
    first.add({"number": 1})
    first.add({"number": 0})
    first.partial.write_bytes(first.partial.read_bytes()[:-4])  # killed within the line of prompt 0
    second = AnswerFile(tmp_path / "out.jsonl")
    assert second.begin(SETTINGS) == {1}
    second.add({"number": 0})
    second.finish()
    assert rows(second.path) == [{"number": 0}, {"number": 1}]


def test_answers_under_other_settings_are_not_mixed(tmp_path):
    AnswerFile(tmp_path / "out.jsonl").begin(SETTINGS)
    with pytest.raises(UserError, match="under other settings: seed was 0 and is now 1"):
        AnswerFile(tmp_path / "out.jsonl").begin({**SETTINGS, "seed": 1})


def test_a_finished_file_and_a_foreign_one_are_left_alone(tmp_path):
    (tmp_path / "done.jsonl").write_text("kept")
    with pytest.raises(UserError, match="is there already"):
        AnswerFile(tmp_path / "done.jsonl")
    (tmp_path / "out.jsonl.partial").write_text('{"number": 1}\n')
    with pytest.raises(UserError, match="is not what an interrupted run leaves"):
        AnswerFile(tmp_path / "out.jsonl").begin(SETTINGS)
    assert (tmp_path / "out.jsonl.partial").read_text() == '{"number": 1}\n'
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        AnswerFile(tmp_path / "file" / "out.jsonl").begin(SETTINGS)
