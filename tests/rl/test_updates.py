import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.updates import split_responses, update_metrics
from phi4r.sampling import FINISH_LENGTH, FINISH_STOP, Samples


def samples(finish_reason) -> Samples:
    nothing = np.zeros((len(finish_reason), 2), np.int32)
    fields = {name: nothing for name in ("tokens", "segment_ids", "response_mask", "logprobs", "entropies")}
    known = {name: array for name, array in fields.items() if name in Samples.__dataclass_fields__}
    return Samples(**known, finish_reason=np.array(finish_reason, np.int32))


def test_one_update_takes_all_responses_in_their_order():
    parts = split_responses(samples([FINISH_STOP] * 6), GrpoSettings(group_size=2), seed=0, step=1)
    assert [part.tolist() for part in parts] == [[0, 1, 2, 3, 4, 5]]


def test_several_updates_share_whole_groups_in_an_order_of_seed_and_step():
    settings = GrpoSettings(group_size=2, updates_per_rollout=3)
    given = samples([FINISH_STOP] * 24)

    def parts(seed, step):
        return [part.tolist() for part in split_responses(given, settings, seed=seed, step=step)]

    assert sorted(row for part in parts(0, 1) for row in part) == list(range(24))
    assert [len(part) for part in parts(0, 1)] == [8, 8, 8]
    for part in parts(0, 1):
        assert all(part[i + 1] == part[i] + 1 and part[i] % 2 == 0 for i in range(0, 8, 2))
    assert parts(0, 1) == parts(0, 1)
    assert len({str(parts(seed, step)) for seed, step in ((0, 1), (0, 2), (1, 1), (1, 2))}) == 4


def test_responses_that_were_cut_off_are_left_out_where_they_are_filtered():
    given = samples([FINISH_STOP, FINISH_LENGTH, FINISH_STOP, FINISH_STOP, FINISH_LENGTH, FINISH_LENGTH])
    settings = GrpoSettings(group_size=2, overlong="filter")
    assert [part.tolist() for part in split_responses(given, settings, seed=0, step=1)] == [[0, 2, 3]]


def metrics(**values):
    fixed = {"finite": 1.0, "importance": 1.0, "importance_squared": 1.0}
    return {name: jnp.float32(value) for name, value in {**fixed, **values}.items()}


def test_the_metrics_of_several_updates_by_hand():
    updates = [
        metrics(loss=1.0, logprob_gap=0.1, logprob_gap_max=0.5, ratio_max=2.0, importance=2.0, importance_squared=8.0),
        metrics(loss=4.0, logprob_gap=0.9, logprob_gap_max=5.0, ratio_max=3.0, finite=0.0),
    ]
    together = {name: float(value) for name, value in update_metrics(updates).items()}
    # The gap is that before any update; Kish's size is 4/8 in the first update and 1 in the second.
    expected = {"loss": 2.5, "logprob_gap": 0.1, "logprob_gap_max": 0.5, "ratio_max": 3.0, "finite": 0.0, "ess": 0.75}
    assert together == pytest.approx(expected)
