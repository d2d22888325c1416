import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.rl.advantages import group_advantages


@pytest.mark.parametrize(("std", "hit", "miss"), [("population", 2.6457, -0.3780), ("sample", 2.4749, -0.3536)])
def test_one_hit_in_eight_by_hand(std, hit, miss):
    rewards = np.array([1, 0, 0, 0, 0, 0, 0, 0], np.float32)
    advantages, zero_spread = group_advantages(rewards, group_size=8, std=std, eps=1e-6)
    np.testing.assert_allclose(advantages, [hit] + [miss] * 7, atol=1e-4)
    assert zero_spread.tolist() == [False]


def test_without_std_the_advantage_is_the_centred_reward():
    rewards = np.array([1, 0, 0, 0, 3, 3, 3, 5], np.float32)
    advantages, _ = group_advantages(rewards, group_size=4, std="none", eps=1e-6)
    np.testing.assert_allclose(advantages, [0.75, -0.25, -0.25, -0.25, -0.5, -0.5, -0.5, 1.5], atol=1e-6)


def test_eps_is_added_to_the_standard_deviation():
    # mean 1, population deviation 1, eps 1: half of the unit advantages.
    advantages, _ = group_advantages(np.array([0, 2], np.float32), group_size=2, std="population", eps=1.0)
    np.testing.assert_allclose(advantages, [-0.5, 0.5], atol=1e-6)


@pytest.mark.parametrize("std", ["population", "sample", "none"])
@pytest.mark.parametrize("group_size", [3, 7, 8])
def test_groups_without_spread_get_exactly_zero_and_are_counted(std, group_size):
    # Equal rewards whose float32 mean is off by a rounding error for some of these sizes and values.
    values = np.array([8 / 13, 0.1, -1 / 3, 1e-8, 0.7], np.float32)
    rewards = np.concatenate([np.repeat(values, group_size), np.arange(group_size, dtype=np.float32)])
    advantages, zero_spread = group_advantages(rewards, group_size=group_size, std=std, eps=0.0)
    assert np.all(np.asarray(advantages[:-group_size]) == 0.0)
    assert zero_spread.tolist() == [True] * 5 + [False]
    assert np.all(np.isfinite(advantages))


def test_groups_do_not_see_each_other():
    rewards = np.random.default_rng(0).normal(size=12).astype(np.float32)
    together, _ = group_advantages(rewards, group_size=4, std="sample", eps=1e-6)
    apart = [group_advantages(rewards[i : i + 4], group_size=4, std="sample", eps=1e-6)[0] for i in (0, 4, 8)]
    np.testing.assert_allclose(together, np.concatenate(apart), atol=1e-6)


def test_rows_that_are_not_whole_groups_are_refused():
    with pytest.raises(UserError, match="10 rewards are not whole groups"):
        group_advantages(np.zeros(10, np.float32), group_size=8, std="population", eps=1e-6)


def test_leave_one_out_compares_with_the_others_by_hand():
    # 3 against the mean of 0, 1 and 2; 0 against that of 1, 2 and 3; ...
    rewards = np.array([0, 1, 2, 3], np.float32)
    advantages, _ = group_advantages(rewards, group_size=4, std="none", eps=0.0, baseline="leave_one_out")
    np.testing.assert_allclose(advantages, [-2.0, -2 / 3, 2 / 3, 2.0], atol=1e-6)
