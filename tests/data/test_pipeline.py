import json

import numpy as np
import pytest

from phi4r.data.pipeline import DataSettings, SourceSettings, TrainData
from phi4r.data.records import Trace, write_jsonl
from phi4r.data.sources import SequenceSource, write_arrayrecord
from phi4r.errors import UserError
from phi4r.settings import build
from phi4r.text.chat import load_chat
from phi4r.text.reasoning import write_reasoning_tokenizer
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder

FIELDS = ("tokens", "targets", "segment_ids", "positions", "loss_mask")


def traces(count, *, name="t", longest=20):
    """Traces of 22 to 21 + longest tokens: the prompt's 3 and END, `<think></think>s` and END, and the thought."""
    return [Trace(f"{name}{i}", f"{i:03d}", name * (1 + i * 7 % longest), "s", "", {}) for i in range(count)]


def length(trace):
    """Tokens under the chat of these tests: every character, and an END for each message."""
    return sum(len(message["content"]) + 1 for message in trace.messages())


def settings(**changes):
    defaults = dict(sources=(SourceSettings("memory"),), row_length=100, global_batch=4, window=16, num_threads=2)
    return DataSettings(**{**defaults, **changes})


def make_data(chat, *, rows=None, seed=0, process_index=0, process_count=1, **changes):
    source = SequenceSource(traces(37) if rows is None else rows)
    host = dict(process_index=process_index, process_count=process_count)
    return TrainData(settings(**changes), chat, seed=seed, sources=[source], **host)


def take(iterator, count):
    batches = [next(iterator) for _ in range(count)]
    iterator.close()
    return batches


def assert_equal(left, right):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


def segments(batch):
    """The token lists of all segments of a batch, without padding."""
    for tokens, ids in zip(batch.tokens, batch.segment_ids, strict=True):
        for segment in range(1, ids.max() + 1):
            yield tokens[ids == segment].tolist()


def test_batches_made_ahead_are_those_made_one_by_one(chat):
    data = make_data(chat)
    for number, batch in enumerate(take(data.batches(), 12)):
        assert_equal(batch, data.batch(number))


@pytest.mark.parametrize("changes", [{}, {"packing": "none"}, {"position_stretch": 2.0}, {"num_threads": 0}])
def test_a_run_killed_anywhere_goes_on_with_the_same_batches(chat, changes):
    uninterrupted = take(make_data(chat, seed=7, **changes).batches(), 20)
    for killed in np.random.default_rng(0).integers(0, 20, size=4).tolist():
        state = json.loads(json.dumps({"position": killed}))
        resumed = make_data(chat, seed=7, **changes)
        for number, batch in enumerate(take(resumed.batches(state["position"]), 20 - killed)):
            assert_equal(batch, uninterrupted[killed + number])


@pytest.mark.parametrize("process_count", [2, 4])
def test_the_global_batch_does_not_depend_on_the_number_of_hosts(chat, process_count):
    whole = make_data(chat)
    hosts = [make_data(chat, process_index=index, process_count=process_count) for index in range(process_count)]
    for number in (0, 3, 9):
        parts = [host.batch(number) for host in hosts]
        assert parts[0].tokens.shape == (4 // process_count, 100)
        for name in FIELDS:
            joined = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_array_equal(joined, getattr(whole.batch(number), name))


def test_the_first_epoch_teaches_every_example_once_and_by_its_own_tokens(chat):
    rows = traces(37)
    data = make_data(chat, rows=rows, window=37, global_batch=1)
    expected = sorted(chat.example(trace.messages()).tokens for trace in rows)
    taught, number = [], 0
    while len(taught) < len(rows):
        taught += segments(data.batch(number))
        number += 1
    assert sorted(taught) == expected


def test_only_the_response_is_trained_up_to_its_end(chat):
    trace = Trace("t", "question", "why", "so", "", {})
    batch = make_data(chat, rows=[trace], packing="none", global_batch=1, row_length=40).batch(0)
    learnt = batch.targets[0][batch.loss_mask[0] > 0].tolist()
    assert learnt == [ord(character) for character in "<think>why</think>so"] + [1]
    assert batch.positions[0].tolist() == [*range(30)] + [0] * 10  # 9 + 21 tokens


def test_the_chat_format_of_a_model_passes_through_whole(tmp_path):
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), tmp_path / "base")
    write_reasoning_tokenizer(tmp_path / "base", tmp_path / "reasoning", system_message=None)
    real_chat = load_chat(tmp_path / "reasoning")
    rows = [Trace("t", f"{i} + 1 = ? <|im_end|>", f"{i} + 1", f"{i + 1}", "", {}) for i in range(8)]
    data = make_data(real_chat, rows=rows, window=8, global_batch=1, row_length=400)
    taught = list(segments(data.batch(0)))
    assert sorted(taught) == sorted(real_chat.example(row.messages()).tokens for row in rows)
    assert all(tokens.count(real_chat.tokenizer.eos_id) == 2 for tokens in taught)  # not the one that the user typed


def test_one_example_a_row_without_packing(chat):
    batch = make_data(chat, packing="none").batch(0)
    assert batch.segment_ids.max(axis=1).tolist() == [1, 1, 1, 1]


def test_another_seed_gives_other_batches(chat):
    first, second = make_data(chat, seed=0).batch(0), make_data(chat, seed=1).batch(0)
    assert not np.array_equal(first.tokens, second.tokens)


def test_sources_are_mixed_by_weight(chat, tmp_path):
    write_jsonl(tmp_path / "a.jsonl", traces(30, name="a"))
    write_arrayrecord(tmp_path / "b.array_record", traces(5, name="b"))
    section = {
        "sources": [
            {"spec": f"jsonl:{tmp_path}/a.jsonl", "weight": 1},
            {"spec": f"arrayrecord:{tmp_path}/b.array_record", "weight": 3.0},
        ],
        "row_length": 64,
        "global_batch": 40,
        "packing": "none",
        "window": 40,
    }
    data = TrainData(build(DataSettings, section, where="config.data"), chat, seed=0)
    tokens = data.batch(0).tokens
    assert [int((tokens == ord("a")).any(axis=1).sum()), int((tokens == ord("b")).any(axis=1).sum())] == [10, 30]


def test_random_positions_change_nothing_but_the_positions(chat):
    plain, spread = make_data(chat), make_data(chat, position_stretch=5.0)
    for number in range(3):
        left, right = plain.batch(number), spread.batch(number)
        for name in ("tokens", "targets", "segment_ids", "loss_mask"):
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
        same_segment = (right.segment_ids[:, 1:] == right.segment_ids[:, :-1]) & (right.segment_ids[:, 1:] > 0)
        assert np.all(np.diff(right.positions, axis=1)[same_segment] > 0)
        assert plain.batch(number).positions.max() < right.positions.max() < 5 * 41  # the longest example has 41


def test_an_example_has_new_positions_each_time_it_comes(chat):
    data = make_data(chat, rows=traces(1), position_stretch=9.0, packing="none", window=4)
    batch = data.batch(0)
    assert len({tuple(positions) for positions in batch.positions.tolist()}) == 4


def test_statistics_by_hand(chat):
    rows = [Trace(str(i), "p", "t" * i, "s", "", {}) for i in (1, 2, 3, 90)]
    assert [length(row) for row in rows] == [20, 21, 22, 109]
    data = make_data(chat, rows=rows, overlong="drop", window=3, row_length=63)
    assert (data.stats.num_examples, data.stats.num_tokens, data.stats.longest) == (3, 63, 22)
    assert (data.stats.num_dropped, data.stats.longest_dropped) == (1, 109)
    assert data.stats.fill == pytest.approx(1.0)  # 63 of 63
    assert str(data.stats) == (
        "3 examples with 63 tokens, the longest 22; rows are 100.0% full, with 3.0 examples each; 1 are too long for a "
        "row and left out, the longest 109"
    )


def test_over_length_rows_are_refused_with_their_number_and_length(chat, tmp_path):
    rows = [Trace(str(i), "p", "t" * i, "s", "", {}) for i in (1, 85, 90, 2)]
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, rows)
    with pytest.raises(UserError) as caught:
        TrainData(settings(sources=(SourceSettings(f"jsonl:{path}"),)), chat, seed=0)
    assert str(caught.value) == (
        f"2 of 4 examples are longer than row_length=100 tokens, the longest 109 ({path}:3);"
        " raise row_length, or set overlong='drop' to leave them out."
    )


def test_dropping_over_length_rows_keeps_exactly_the_others(chat):
    rows = traces(30, longest=30)
    kept = sorted(chat.example(row.messages()).tokens for row in rows if length(row) <= 40)
    assert 0 < len(kept) < 30
    data = make_data(chat, rows=rows, overlong="drop", packing="none", row_length=40, global_batch=len(kept))
    assert sorted(segments(data.batch(0))) == kept
    assert data.stats.num_dropped == 30 - len(kept)


def test_a_source_of_which_nothing_fits_is_refused(chat):
    with pytest.raises(UserError, match="all 3 rows of the source of memory row 0 are longer than row_length=10"):
        make_data(chat, rows=traces(3), overlong="drop", row_length=10)


def test_a_bad_row_is_named_before_the_run_begins(chat, tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(trace.to_dict()) for trace in traces(3)]
    path.write_text("\n".join([*lines, json.dumps({"prompt": "p", "thought": "t", "answer": "1"})]))
    with pytest.raises(UserError, match=r"rows\.jsonl:4 has no 'solution'"):
        TrainData(settings(sources=(SourceSettings(f"jsonl:{path}"),)), chat, seed=0)


def test_a_row_that_teaches_nothing_is_named(chat):
    class Untrained:
        def example(self, messages):
            example = chat.example(messages)
            return type(example)(example.tokens, [False] * len(example.tokens))

    with pytest.raises(UserError, match="memory row 0: no token of it is trained"):
        make_data(Untrained())


def test_what_the_chat_refuses_is_named_by_its_row(chat):
    class Strict:
        def example(self, messages):
            raise UserError("unknown role")

    with pytest.raises(UserError, match="memory row 0: unknown role"):
        make_data(Strict())


def test_a_row_that_changes_under_a_run_stops_it(chat):
    rows = [trace.to_dict() for trace in traces(8)]
    data = make_data(chat, rows=rows)
    for row in rows:
        row["thought"] += "!"
    iterator = data.batches()
    with pytest.raises(UserError, match="has changed since the run began"):
        next(iterator)
    iterator.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": ()}, "has no sources"),
        ({"sources": (SourceSettings("memory", 0.0),)}, "weight 0.0; give a positive one"),
        ({"row_length": 0}, "data.row_length=0 must be at least 1"),
        ({"process_count": 3}, "data.global_batch=4 does not divide over 3 hosts"),
        ({"position_stretch": 0.5}, "data.position_stretch=0.5 must be at least 1, or None"),
    ],
)
def test_settings_that_cannot_work_are_refused(chat, changes, message):
    with pytest.raises(UserError, match=message):
        make_data(chat, **changes)
