import contextlib
import dataclasses

import numpy as np
import pytest

from phi4r.data.records import Problem
from phi4r.data.sources import write_arrayrecord
from phi4r.errors import UserError
from phi4r.rl.records import StoredRollout, rollout_files, save_rollout
from phi4r.rl.rewards import Rewards
from phi4r.rl.rollout import JudgedGroups, Rollout
from phi4r.sampling import FINISH_LENGTH, FINISH_STOP, Samples
from phi4r.text.tokenizer import load_tokenizer
from phi4r.verifiers.verdict import Verdict
from tests.disks import no_file_larger_than

RIGHT = "<think></think>\\boxed{7}"


@pytest.fixture(scope="module")
def tokenizer(policy_folder):
    return load_tokenizer(policy_folder)


def make_rollout(tokenizer, *responses, num_problems=1) -> Rollout:
    """A rollout of texts, or of token ids that were cut off; token t of row r was drawn with log-prob -(r + t / 8)."""
    cut = [not isinstance(response, str) for response in responses]
    ids = [
        r if c else [*tokenizer.encode(r, specials=True), tokenizer.eos_id] for r, c in zip(responses, cut, strict=True)
    ]
    shape = (len(ids), 2 + max(map(len, ids)))
    tokens, mask = np.full(shape, tokenizer.pad_id, np.int32), np.zeros(shape, bool)
    for row, response in enumerate(ids):
        tokens[row, 2 : 2 + len(response)], mask[row, 2 : 2 + len(response)] = response, True
    logprobs = -(np.arange(shape[0])[:, None] + (np.arange(shape[1])[None] - 2) / 8)
    reasons = np.where(cut, FINISH_LENGTH, FINISH_STOP).astype(np.int32)
    samples = Samples(
        tokens=tokens,
        segment_ids=mask.astype(np.int32),
        response_mask=mask,
        logprobs=np.where(mask, logprobs, 0).astype(np.float32),
        entropies=np.where(mask, -2 * logprobs, 0).astype(np.float32),
        finish_reason=reasons,
    )
    right = np.array([response == RIGHT for response in responses], np.float32)
    return Rollout(
        problems=[Problem(f"p{i}", f"{i} + 7 =", str(i + 7)) for i in range(num_problems)],
        samples=samples,
        texts=[tokenizer.decode(row if c else row[:-1]) for row, c in zip(ids, cut, strict=True)],
        verdicts=[Verdict(bool(r), float(r), "7" if r else None, "ok" if r else "no_answer") for r in right],
        rewards=Rewards(right * 0.5, right, {"accuracy": right * 0.75, "repetition": -right}),
        advantages=right - 0.25,
        metrics={"sample_s": 1.5, "judge_s": 0.5},
    )


def test_a_response_is_stored_with_all_that_is_known_of_it(tokenizer, tmp_path):
    path = tmp_path / "rollouts" / "000001.arrayrecord"
    save_rollout(path, make_rollout(tokenizer, RIGHT, RIGHT), tokenizer)
    ids = [*tokenizer.encode(RIGHT, specials=True), tokenizer.eos_id]
    assert ids[:2] == [tokenizer.think_id, tokenizer.end_think_id]
    assert StoredRollout(path)[1] == {
        "problem": "p0",
        "sample": 1,
        "prompt": "0 + 7 =",
        "reference": "7",
        "answer": "7",
        "status": "ok",
        "correct": True,
        "finish_reason": "stop",
        "reward": 0.5,
        "reward_accuracy": 0.75,
        "reward_repetition": -1.0,
        "advantage": 0.75,
        "sample_s": 1.5,
        "judge_s": 0.5,
        "text": RIGHT,
        "tokens": ids,
        "token_lengths": [7, 8, *(len(tokenizer.decode([token])) for token in ids[2:-1]), 0],
        "logprobs": [-1 - t / 8 for t in range(len(ids))],
        "entropies": [2 + t / 4 for t in range(len(ids))],
    }


def test_records_come_in_the_order_of_the_batch(tokenizer, tmp_path):
    save_rollout(tmp_path / "x", make_rollout(tokenizer, "a", "b", "c", "d", num_problems=2), tokenizer)
    found = [(row["problem"], row["sample"], row["text"]) for row in StoredRollout(tmp_path / "x")]
    assert found == [("p0", 0, "a"), ("p0", 1, "b"), ("p1", 0, "c"), ("p1", 1, "d")]


def test_groups_that_were_dropped_come_last_and_have_no_advantage(tokenizer, tmp_path):
    whole = make_rollout(tokenizer, "a", "b", "c", "d", num_problems=2)
    dropped = JudgedGroups(whole.problems, whole.samples, whole.texts, whole.verdicts, [], whole.rewards)
    rollout = dataclasses.replace(make_rollout(tokenizer, RIGHT, RIGHT), dropped=dropped)
    save_rollout(tmp_path / "x", rollout, tokenizer)
    found = [(row["problem"], row["sample"], row["advantage"]) for row in StoredRollout(tmp_path / "x")]
    kept = [("p0", 0, 0.75), ("p0", 1, 0.75)]
    assert found == [*kept, *[(problem, sample, None) for problem in ("p0", "p1") for sample in (0, 1)]]


def test_a_response_that_was_cut_off_has_no_end_token(tokenizer, tmp_path):
    ids = tokenizer.encode("<think>chain", specials=True)
    save_rollout(tmp_path / "x", make_rollout(tokenizer, ids), tokenizer)
    [row] = StoredRollout(tmp_path / "x")
    assert (row["finish_reason"], row["answer"], row["status"]) == ("length", None, "no_answer")
    assert row["tokens"] == ids and sum(row["token_lengths"]) == len("<think>chain")


def test_gaps_of_the_trainer_are_stored_where_they_are_at_hand(tokenizer, tmp_path):
    rollout = make_rollout(tokenizer, RIGHT, "no")
    gaps = [np.linspace(-1e-5, 1e-5, int(n), dtype=np.float32) for n in rollout.samples.lengths]
    save_rollout(tmp_path / "x", rollout, tokenizer, logprob_gaps=gaps)
    for row, gap in zip(StoredRollout(tmp_path / "x"), gaps, strict=True):
        np.testing.assert_allclose(row["logprob_gaps"], gap, atol=1e-8)


# What each token wrote


def bytes_of(tokenizer, text):
    """The ids that spell a text byte by byte."""
    return [tokenizer.token_id(f"<0x{byte:02X}>") for byte in text.encode()]


def lengths_of(tokenizer, ids, tmp_path):
    save_rollout(tmp_path / "x", make_rollout(tokenizer, ids), tokenizer)
    [row] = StoredRollout(tmp_path / "x")
    return row["token_lengths"], row["text"]


def test_a_character_of_several_tokens_counts_for_the_last_of_them(tokenizer, tmp_path):
    ids = [*bytes_of(tokenizer, "é"), *bytes_of(tokenizer, "€"), *bytes_of(tokenizer, "😀"), *bytes_of(tokenizer, "x")]
    assert lengths_of(tokenizer, ids, tmp_path) == ([0, 1, 0, 0, 1, 0, 0, 0, 1, 1], "é€😀x")


def test_bytes_that_are_no_character_still_add_up_to_the_text(tokenizer, tmp_path):
    broken = [*bytes_of(tokenizer, "€")[:2], *bytes_of(tokenizer, "ab"), *bytes_of(tokenizer, "😀")[:3]]
    lengths, text = lengths_of(tokenizer, broken, tmp_path)
    assert text == "\ufffdab\ufffd" and lengths == [0, 0, 2, 1, 0, 0, 1]


def test_a_long_run_of_broken_bytes_is_spelt_or_given_up_but_never_wrong(tokenizer, tmp_path):
    for num_bytes in (15, 16, 17, 50):
        lengths, text = lengths_of(tokenizer, [tokenizer.token_id("<0xFF>")] * num_bytes, tmp_path)
        assert len(text) == num_bytes and sum(lengths) == num_bytes


def test_a_tokenizer_that_changes_with_the_neighbours_is_not_spelt(tokenizer, tmp_path):
    class Stripping:
        """Drops the blank that a text begins with, as some tokenizers do."""

        eos_id = tokenizer.eos_id

        def decode(self, ids):
            return tokenizer.decode(ids).removeprefix(" ")

    rollout = make_rollout(tokenizer, "two words")
    save_rollout(tmp_path / "x", rollout, Stripping())
    assert StoredRollout(tmp_path / "x")[0]["token_lengths"] is None


# Files


def test_the_files_of_a_run_are_found_by_step(tokenizer, tmp_path):
    for name in ("rollouts/000010.arrayrecord", "rollouts/000009.arrayrecord", "rollouts/x.arrayrecord"):
        save_rollout(tmp_path / name, make_rollout(tokenizer, RIGHT), tokenizer)
    expected = {step: tmp_path / "rollouts" / f"{step:06d}.arrayrecord" for step in (9, 10)}
    assert list(rollout_files(tmp_path).items()) == list(expected.items())
    assert rollout_files(tmp_path / "rollouts") == expected


def test_a_folder_without_rollouts_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="there are no rollouts in"):
            rollout_files(folder)


def test_a_full_disk_is_one_line_and_leaves_nothing(tokenizer, tmp_path):
    path = tmp_path / "000001.arrayrecord"
    with pytest.raises(UserError) as caught, no_file_larger_than(1000):
        save_rollout(path, make_rollout(tokenizer, RIGHT), tokenizer)
    assert str(caught.value) == f"cannot write {path}: File too large; make room on the disk and start the run again."
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_one_line(tokenizer, tmp_path):
    path = tmp_path / "000001.arrayrecord"
    save_rollout(path, make_rollout(tokenizer, *[RIGHT] * 4), tokenizer)
    whole = path.read_bytes()
    found = []
    for at in (0, len(whole) // 4, len(whole) // 2):
        path.write_bytes(whole[:at] + bytes(byte ^ 0x55 for byte in whole[at : at + 40]) + whole[at + 40 :])
        with contextlib.suppress(UserError):  # it may hit what nobody reads
            list(StoredRollout(path))
            continue
        found.append(at)
    assert found
    path.write_bytes(b"text")
    with pytest.raises(UserError, match="not readable as ArrayRecord"):
        list(StoredRollout(path))


def test_a_record_that_is_not_json_is_one_line(tmp_path):
    from array_record.python.array_record_module import ArrayRecordWriter

    path = tmp_path / "000001.arrayrecord"
    write_arrayrecord(path, [{"problem": "p0"}])
    writer = ArrayRecordWriter(str(path), "group_size:1")
    writer.write(b"{'problem'")
    writer.close()
    with pytest.raises(UserError, match="record 0 is not valid JSON"):
        list(StoredRollout(path))
