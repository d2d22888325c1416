import json
import pathlib

import numpy as np
import pytest

from phi4r.rl.rewards import RewardSettings
from phi4r.viewing.run_facts import MAX_POINTS, metric_curves, reward_curve, reward_settings, run_folder

REWARD = {"max_length": 32, "positive_control_length": 26, "negative_control_length": 4}


def test_lines_of_one_step_are_one_point_and_missing_values_are_gaps(write_run, tmp_path):
    metrics = [
        {"step": 1, "reward": 0.5, "length_correct": None, "loss": 1.0},
        {"step": 2, "reward": 0.25, "length_correct": 10.0},
        {"step": 2, "dev_accuracy": 0.75},
    ]
    assert metric_curves(write_run(tmp_path, {}, metrics=metrics)) == {
        "step": [1, 2],
        "reward": [0.5, 0.25],
        "dev_accuracy": [None, 0.75],
        "length_correct": [None, 10.0],
    }


def test_a_run_without_metrics_has_no_curves(tmp_path):
    assert metric_curves(tmp_path) is None
    (tmp_path / "metrics.jsonl").write_text("")
    assert metric_curves(tmp_path) is None


def test_long_runs_are_thinned_but_keep_what_is_rare(write_run, tmp_path):
    metrics = [{"step": step, "reward": 0.0} for step in range(1, 2001)] + [{"step": 777, "dev_accuracy": 1.0}]
    curves = metric_curves(write_run(tmp_path, {}, metrics=metrics))
    assert len(curves["step"]) == MAX_POINTS + 1
    assert curves["dev_accuracy"][curves["step"].index(777)] == 1.0


def test_the_folder_of_a_run_is_found_from_its_rollouts(tmp_path):
    assert run_folder(tmp_path / "rollouts") == run_folder(tmp_path) == tmp_path.resolve()


def test_the_constants_of_the_reward_come_from_the_config(tmp_path):
    assert reward_settings(tmp_path) is None
    old = {"accuracy_weight": 0.5, "repetition": {"ngram_length": 3}}  # a weight of an older version is passed over
    (tmp_path / "config.json").write_text(json.dumps({"reward": REWARD | old}))
    settings = reward_settings(tmp_path)
    assert (settings.max_length, settings.negative_control_length, settings.repetition.ngram_length) == (32, 4, 3)


def test_a_stage_has_its_config_in_the_folder_above(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"grpo": {"reward": REWARD}, "sft": {}}))
    assert reward_settings(tmp_path / "grpo").max_length == 32
    assert reward_settings(tmp_path / "sft") is None


@pytest.mark.parametrize("text", ["", "[1]", '{"reward": 3}', '{"reward": {"max_length": "long"}}'])
def test_a_config_that_says_nothing_of_the_reward_is_passed_over(text, tmp_path):
    pathlib.Path(tmp_path / "config.json").write_text(text)
    assert reward_settings(tmp_path) is None


def test_the_curve_passes_through_the_golden_points():
    curve = reward_curve(RewardSettings())
    assert np.interp(28672, curve["lengths"], curve["right"]) == pytest.approx(0.75, abs=1e-3)
    assert np.interp(1851, curve["lengths"], curve["wrong"]) == pytest.approx(-0.75, abs=5e-3)
    assert curve["lengths"][0] == 0 and curve["lengths"][-1] == 31744
    assert curve["marks"] == [3702, 25600, 31744]


def test_without_the_length_term_the_curve_is_flat():
    curve = reward_curve(RewardSettings(length_aware=False))
    assert set(curve["right"]) == {1.0} and set(curve["wrong"]) == {-1.0}
