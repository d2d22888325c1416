import base64
import gzip
import json
import math

import pytest

from phi4r.errors import UserError
from phi4r.rl.repetition import RepetitionSettings
from phi4r.viewing.encoding import encode_response, pack, to_json

PAPER = RepetitionSettings()


def test_numbers_are_rounded_to_what_the_page_shows(make_record):
    record = make_record("p", 3, "a b", logprobs=[-0.014, -2.0], entropies=[0.126, 0.0], reward=1 / 3)
    encoded = encode_response(record, PAPER, where="here")
    assert encoded == {
        "sample": 3,
        "text": "a b",
        "answer": "7",
        "status": "ok",
        "right": False,
        "finish": "stop",
        "reward": 0.33333,
        "parts": {"accuracy": -0.5, "repetition": 0.0},
        "advantage": -1.0,
        "tokens": 2,
        "entropy": 0.063,
        "lengths": [1, 2],
        "entropies": [13, 0],
        "surprises": [1, 200],
        "gaps": None,
        "repeats": [],
    }


def test_lengths_and_repeats_count_as_javascript_does(make_record):
    text = "😀 " + "x y z u v " * 6
    record = make_record("p", 0, text, tokens=[1, 2, 3], token_lengths=[0, 1, len(text) - 1], logprobs=[0.0] * 3)
    encoded = encode_response(record, PAPER, where="here")
    assert encoded["lengths"] == [0, 2, len(text) - 1]
    assert encoded["repeats"] == [3, 3 + 6 * 10 - 1]


def test_what_an_old_record_lacks_is_null(make_record):
    record = make_record("p", 0)
    for name in ("entropies", "token_lengths"):
        del record[name]
    encoded = encode_response(record, PAPER, where="here")
    assert encoded["entropies"] is encoded["entropy"] is encoded["lengths"] is encoded["gaps"] is None


def test_numbers_that_are_not_finite_are_still_json(make_record):
    nan = float("nan")
    record = make_record("p", 0, "a b", reward=nan, logprobs=[nan, -math.inf], logprob_gaps=[nan, -1.234e-6])
    encoded = json.loads(to_json(encode_response(record, PAPER, where="here")))
    assert encoded["reward"] is None and encoded["surprises"] == [9999, 9999] and encoded["gaps"] == [None, -1.2e-6]


@pytest.mark.parametrize(
    "changes", [{"text": 3}, {"tokens": None}, {"logprobs": ["x"]}, {"token_lengths": [99]}, {"reward": "high"}]
)
def test_a_record_of_something_else_is_one_line(changes, make_record):
    with pytest.raises(UserError, match="here is not a record of a rollout") as caught:
        encode_response(make_record("p", 0) | changes, PAPER, where="here")
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named(make_record):
    record = make_record("p", 0)
    del record["advantage"]
    with pytest.raises(UserError, match="it has no 'advantage'"):
        encode_response(record, PAPER, where="here")


def test_packed_data_cannot_be_markup(make_record):
    data = to_json({"text": "</script><!--" * 50})
    packed = pack(data)
    assert set(packed) <= set(map(chr, b"+/=0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))
    assert gzip.decompress(base64.b64decode(packed)) == data
