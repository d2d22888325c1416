import math

import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.evals.reporting.dynamics import MAX_POINTS, grpo_figures, sft_figures


def _titles(figures) -> list[str]:
    return [figure.axes[0].get_title(loc="left") for figure, _ in figures]


def _grpo_row(step: int) -> dict[str, float]:
    names = ("reward", "length", "length_correct", "clipped_share", "entropy")
    return {"step": step, "accuracy": step / 10, "length_wrong": 2.0 * step, **dict.fromkeys(names, 1.0 * step)}


def test_sft_shows_its_loss_and_the_development_set_where_it_was_measured():
    rows = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 2, "dev_accuracy": 0.5, "dev_length": 9.0}]
    figures = sft_figures(rows)
    assert _titles(figures) == ["SFT loss", "Accuracy while learning to think", "Length of responses"]
    np.testing.assert_array_equal(figures[0][0].axes[0].get_lines()[0].get_ydata(), [2.0, 1.0])
    np.testing.assert_array_equal(figures[1][0].axes[0].get_lines()[0].get_xdata(), [2])
    assert len(sft_figures(rows[:2])) == 1


def test_several_probed_tasks_have_a_curve_each_in_both_stages():
    probed = {
        "step": 2,
        "dev_accuracy": 0.4,
        "dev_accuracy_maze": 0.5,
        "dev_accuracy_aime_2024": 0.3,
        "dev_length": 7.0,
    }
    accuracy = sft_figures([{"step": 1, "loss": 2.0}, probed])[1][0].axes[0]
    assert [line.get_label() for line in accuracy.get_lines()] == ["aime_2024", "maze"]
    assert [list(line.get_ydata()) for line in accuracy.get_lines()] == [[0.3], [0.5]]
    rollouts, aime, maze = grpo_figures([_grpo_row(1), probed])[0][0].axes[0].get_lines()
    assert (list(rollouts.get_ydata()), list(aime.get_ydata()), list(maze.get_ydata())) == ([0.1], [0.3], [0.5])


def test_grpo_shows_the_six_panels_of_figure_7():
    figures = grpo_figures([_grpo_row(step) for step in range(1, 6)])
    assert _titles(figures) == [
        "Accuracy",
        "Reward against accuracy",
        "Length against accuracy",
        "Length of right and of wrong answers",
        "Share clipped",
        "Entropy",
    ]
    offsets = figures[2][0].axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(offsets, [[step / 10, step] for step in range(1, 6)])
    right, wrong = figures[3][0].axes[0].get_lines()
    np.testing.assert_array_equal(right.get_ydata(), [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(wrong.get_ydata(), [2, 4, 6, 8, 10])


def test_rows_of_evaluations_and_values_that_are_nan_do_no_harm():
    rows = [_grpo_row(1), {"step": 1, "dev_accuracy": 0.3}, {**_grpo_row(2), "length_wrong": math.nan}, _grpo_row(3)]
    figures = grpo_figures(rows)
    rollouts, dev = figures[0][0].axes[0].get_lines()
    assert list(rollouts.get_xdata()) == [1, 2, 3] and list(dev.get_xdata()) == [1]
    np.testing.assert_array_equal(figures[3][0].axes[0].get_lines()[1].get_ydata(), [2, math.nan, 6])


def test_long_runs_are_thinned():
    (figure, _), *_ = sft_figures([{"step": step, "loss": 1.0} for step in range(16000)])
    assert all(MAX_POINTS / 2 < len(line.get_xdata()) <= MAX_POINTS for line in figure.axes[0].get_lines())


def test_metrics_of_another_stage_are_refused():
    with pytest.raises(UserError, match="has 'loss'"):
        sft_figures([{"step": 1, "accuracy": 1.0}])
    with pytest.raises(UserError, match="has 'accuracy'"):
        grpo_figures([])
