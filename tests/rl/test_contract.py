import pytest

from phi4r.errors import UserError
from phi4r.rl.contract import ContractGuards
from phi4r.train.guards import Alert, GuardSettings

FINE = {"finite": 1.0, "loss": 0.0, "grad_norm": 1.0, "param_norm": 1.0}


def guards(tmp_path, bound) -> ContractGuards:
    return ContractGuards(GuardSettings(), tmp_path, max_logprob_gap=bound)


def test_a_gap_beyond_the_bound_stops_the_run_and_says_where_how_much_and_what_to_check(tmp_path):
    metrics = {**FINE, "logprob_gap": 0.25, "logprob_gap_max": 3.0}
    with pytest.raises(UserError, match=r"step 7: .* differ by 0.25 nats a token \(at most 3\), .*gap=0.1: .*Check"):
        guards(tmp_path, 0.1).check(7, metrics, None)


@pytest.mark.parametrize(("gap", "bound"), [(0.09, 0.1), (9.0, 0.0), (float("nan"), 0.1)])
def test_a_run_goes_on_within_the_bound_without_one_and_with_nothing_to_compare(tmp_path, gap, bound):
    counts = guards(tmp_path, bound).check(7, {**FINE, "logprob_gap": gap, "logprob_gap_max": gap}, None)
    assert counts["skipped"] == 0


def test_the_gap_of_a_rollout_of_an_older_policy_neither_stops_the_run_nor_is_spoken_of(tmp_path, capsys):
    gap = Alert("logprob_gap", lambda value: value > 0.1, "the gap is {value}.")
    guards = ContractGuards(GuardSettings(), tmp_path, [gap], max_logprob_gap=0.1)
    metrics = {**FINE, "logprob_gap": 0.25, "logprob_gap_max": 3.0}
    guards.check(7, {**metrics, "policy_lag": 1.0}, None)
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match=r"differ by 0\.25"):
        guards.check(8, {**metrics, "policy_lag": 0.0}, None)
    assert "step 8: the gap is 0.25." in capsys.readouterr().err


def test_a_step_that_is_not_finite_is_skipped_as_ever(tmp_path):
    metrics = {**FINE, "finite": 0.0, "logprob_gap": float("nan"), "logprob_gap_max": float("nan")}
    assert guards(tmp_path, 0.1).check(7, metrics, None)["skipped"] == 1
