import base64
import gzip
import json
import random

import pytest

from phi4r.errors import UserError
from phi4r.rl.records import rollout_files
from phi4r.rl.repetition import RepetitionSettings
from phi4r.viewing.selection import by_importance, index_step, pack_step, parse_steps, spread_steps

AVAILABLE = [1, 5, 10, 12, 20, 30]


@pytest.mark.parametrize(
    ("text", "expected"), [("5", [5]), ("30, 1", [1, 30]), ("10-20", [10, 12, 20]), ("1,2-6", [1, 5])]
)
def test_steps_are_chosen_by_number_and_range(text, expected):
    assert parse_steps(text, AVAILABLE) == expected


@pytest.mark.parametrize("text", ["2", "1,13-19", "20-10", "x", "1-", "-3", "", "1.5"])
def test_steps_that_are_not_there_are_refused(text):
    with pytest.raises(UserError, match=f"--steps={text}: "):
        parse_steps(text, AVAILABLE)


@pytest.mark.parametrize(
    ("most", "expected"), [(1, [30]), (2, [1, 30]), (3, [1, 10, 30]), (6, AVAILABLE), (9, AVAILABLE)]
)
def test_chosen_steps_reach_from_the_first_to_the_last(most, expected):
    assert spread_steps(AVAILABLE, most) == expected


@pytest.fixture
def index(make_record, write_run, tmp_path):
    """A step of five problems with four answers of 200 random letters."""
    rng = random.Random(0)
    records = [
        make_record(f"p{problem}", sample, "".join(rng.choices("abcdefgh", k=200)))
        for problem in range(5)
        for sample in range(4)
    ]
    records[0] |= {"correct": False, "tokens": [1] * 11, "entropies": [1.0] * 11, "finish_reason": "length"}
    [(step, path)] = rollout_files(write_run(tmp_path, {3: records})).items()
    return index_step(step, path)


def test_figures_are_of_all_answers(index):
    assert list(index.groups.items())[1] == ("p1", [4, 5, 6, 7])
    assert index.figures == {
        "reward": 0.0,
        "accuracy": 0.45,
        "length": 1.5,
        "length_correct": 1.0,
        "length_wrong": pytest.approx((10 + 11) / 11, abs=1e-4),
        "clipped_share": 0.05,
        "entropy": pytest.approx((11 + 19 * 0.5) / 30, abs=1e-4),
        "sample_s": 2.0,
        "judge_s": 1.0,
    }


def unpack(step):
    return json.loads(gzip.decompress(base64.b64decode(step["packed"])))


def test_what_the_budget_holds_is_packed_in_the_order_of_the_batch(index):
    whole = pack_step(index, list(index.groups), RepetitionSettings(), budget=10**6)
    assert (whole["kept"], whole["problems"], whole["answers"]) == (5, 5, 20)
    groups = unpack(whole)
    assert [group["problem"] for group in groups] == [f"p{i}" for i in range(5)]
    assert [answer["sample"] for answer in groups[2]["answers"]] == [0, 1, 2, 3]
    half = pack_step(
        index, ["p4", "p1", "p0", "p2", "p3"], RepetitionSettings(), budget=int(0.6 * len(whole["packed"]))
    )
    assert [group["problem"] for group in unpack(half)] == ["p1", "p4"]
    assert len(half["packed"]) < 0.6 * len(whole["packed"])


def test_one_problem_is_packed_however_small_the_budget(index):
    least = pack_step(index, ["p3", "p1"], RepetitionSettings(), budget=1)
    assert [group["problem"] for group in unpack(least)] == ["p3"]


def test_problems_that_other_steps_ask_too_come_first(index, make_record, write_run, tmp_path):
    files = rollout_files(
        write_run(tmp_path / "b", {4: [make_record("p2", 0)], 5: [make_record(p, 0) for p in ("p4", "p2")]})
    )
    others = [index_step(step, path) for step, path in files.items()]
    assert by_importance(index, others) == ["p2", "p4", "p0", "p1", "p3"]


def test_a_file_of_something_else_is_one_line(write_run, tmp_path):
    [path] = rollout_files(write_run(tmp_path, {1: [{"prompt": "x"}]})).values()
    with pytest.raises(UserError, match=r"000001.arrayrecord record 0 is not a record of a rollout"):
        index_step(1, path)
