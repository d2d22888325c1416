import dataclasses
import json

import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.evals.record_log import RecordLog
from phi4r.evals.responses import Response, read_responses, response_table, summarise


def _response(item: str, run: int, *, correct: bool = True, answer: str | None = "6", **fields) -> Response:
    values = dict(
        text="<think>\n1</think>é \ud800", num_tokens=10, finish_reason="stop", score=float(correct), status="ok"
    )
    return Response(id=item, run=run, correct=correct, answer=answer, **{**values, **fields})


def test_responses_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "responses.jsonl"
    written = [_response("a", 0), _response("b", 0, correct=False, answer=None, status="no_answer")]
    log = RecordLog(path, Response)
    log.append(written[:1])
    log.append(written[1:])
    assert log.records == read_responses(path) == RecordLog(path, Response).records == written
    assert json.loads(path.read_text().splitlines()[1]) == dataclasses.asdict(written[1])


def test_a_line_cut_anywhere_is_dropped_and_the_next_one_starts_clean(tmp_path):
    path = tmp_path / "responses.jsonl"
    first, second = _response("a", 0), _response("b", 0)
    RecordLog(path, Response).append([first, second])
    whole = path.read_bytes()
    end_of_first = whole.index(b"\n") + 1
    for cut in (end_of_first, end_of_first + 1, end_of_first + 40, len(whole) - 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert read_responses(path) == [first]
        log = RecordLog(path, Response)
        log.append([second])
        assert path.read_bytes() == whole


def test_no_text_of_a_model_breaks_a_line(tmp_path):
    texts = ["two\nlines", "\u2028 and \x85", '"quoted"', "\x00", "\udfff", "🙂"]
    written = [_response("a", run, text=text, answer=text) for run, text in enumerate(texts)]
    log = RecordLog(tmp_path / "responses.jsonl", Response)
    log.append(written)
    assert read_responses(log.path) == written


@pytest.mark.parametrize("line", ["not json", '{"id": "a"}', "[1]", '{"id": "a", "other": 1}'])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "responses.jsonl"
    RecordLog(path, Response).append([_response("a", 0)])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"responses.jsonl:2 is not a stored response; delete that line"):
        read_responses(path)


def test_the_table_puts_runs_of_an_item_into_its_row_whatever_their_order_on_disk():
    responses = [
        _response("b", 1, correct=False, answer="5", num_tokens=21),
        _response("a", 0, answer="1/2", num_tokens=10),
        _response("a", 1, answer="0.5", num_tokens=11),
        _response("b", 0, correct=False, answer=None, finish_reason="length", num_tokens=20),
    ]
    table = response_table(responses)
    assert table.ids == ("a", "b")
    np.testing.assert_array_equal(table.correct, [[True, True], [False, False]])
    np.testing.assert_array_equal(table.num_tokens, [[10, 11], [20, 21]])
    np.testing.assert_array_equal(table.truncated, [[False, False], [True, False]])
    assert table.classes[1][0] is None
    assert table.classes[0][0] == table.classes[0][1], "two forms of a right answer vote together"


def test_a_right_answer_and_a_wrong_one_of_equal_text_are_two_classes():
    (row,) = response_table([_response("a", 0, answer="6"), _response("a", 1, answer="6", correct=False)]).classes
    assert row[0] != row[1]


@pytest.mark.parametrize(
    "answers, same",
    [
        (("1/2", "0.5"), True),
        ((r"\frac12", r"50\%"), True),
        (("x+1", "x + 1"), True),
        (("1,234", "1234"), True),
        (("x+1", "1+x"), False),  # needs algebra
        (("1/3", "0.333333"), False),
        (("A", "B"), False),
    ],
)
def test_wrong_answers_vote_together_where_their_numbers_or_normal_forms_are_equal(answers, same):
    wrong = [_response("a", run, correct=False, answer=answer) for run, answer in enumerate(answers)]
    (row,) = response_table(wrong).classes
    assert (row[0] == row[1]) == same


def test_equal_wrong_answers_outvote_a_right_one():
    wrong = [_response("a", run, correct=False, answer="7") for run in range(2)]
    scores = response_table([*wrong, _response("a", 2)]).scores()
    assert (scores.majority_at_k, scores.pass_at_k, scores.accuracy) == (0.0, 1.0, pytest.approx(1 / 3))


def test_all_statistics_come_from_the_file_alone(tmp_path):
    log = RecordLog(tmp_path / "responses.jsonl", Response)
    log.append([_response("a", 0), _response("b", 0, correct=False, answer="1", num_tokens=30)])
    log.append([_response("a", 1), _response("b", 1, finish_reason="length", num_tokens=50)])
    scores = summarise(log.path)
    assert scores.run_accuracies == (0.5, 1.0)
    assert scores.accuracy == 0.75
    assert scores.sd == pytest.approx(np.sqrt(0.125))
    assert scores.truncated == 0.25
    assert (scores.mean_tokens, scores.mean_tokens_wrong) == (25.0, 30.0)
    assert scores.majority_at_k == 0.75
    assert scores.pass_at_k == 1.0 and scores.all_at_k == 0.5


@pytest.mark.parametrize(
    "responses, message",
    [
        ([("a", 0), ("a", 1), ("b", 0)], "1 responses are missing"),
        ([("a", 1)], "1 responses are missing"),
        ([("a", 0), ("a", 0)], "there twice"),
    ],
)
def test_tables_with_holes_or_repeats_are_refused(responses, message):
    with pytest.raises(UserError, match=message):
        response_table([_response(*key) for key in responses])


def test_missing_and_unwritable_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="run the evaluation first"):
        summarise(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="choose another --workdir"):
        RecordLog(tmp_path / "no folder" / "responses.jsonl", Response)
