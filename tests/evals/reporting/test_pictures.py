import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.evals.reporting.collected import read_models
from phi4r.evals.reporting.derived import all_groups
from phi4r.evals.reporting.pictures import (
    checkpoint_pictures,
    checkpoint_steps,
    overview_picture,
    samples_drawn,
    task_pictures,
)
from phi4r.evals.reporting.result_tables import by_model
from tests.evals.reporting.folders import write_evaluation

ONE_RUN = {"a": [1], "b": [0]}
FIVE_RUNS = {"a": [1, 1, 1, 0, 0], "b": [0, 0, 0, 0, 0]}


def models(*folders):
    return read_models([str(folder) for folder in folders])


def names(found, task="aime_2025"):
    evaluations = by_model(found, task)
    return {picture.name: picture.figure for picture in task_pictures(task, evaluations, all_groups(evaluations))}


def test_one_run_shows_groups_and_tokens_alone(tmp_path):
    found = models(write_evaluation(tmp_path / "A", verdicts=ONE_RUN))
    assert list(names(found)) == ["aime_2025_tokens"], "both items are of one year"
    found = models(write_evaluation(tmp_path / "B", verdicts={"a": [1], "c": [0]}))
    assert list(names(found)) == ["aime_2025_year", "aime_2025_field", "aime_2025_tokens"]


def test_several_runs_show_their_distribution_votes_and_passes(tmp_path):
    figures = names(models(write_evaluation(tmp_path / "A", verdicts=FIVE_RUNS, groups=None)))
    assert list(figures) == ["aime_2025_runs", "aime_2025_majority", "aime_2025_pass_at_k", "aime_2025_tokens"]
    [passes] = figures["aime_2025_pass_at_k"].axes[0].get_lines()
    # Item a: 1 - C(2, k) / C(5, k) for k = 1, 2, and certain from 3 on; item b never.
    np.testing.assert_allclose(passes.get_ydata(), np.array([0.6, 0.9, 1, 1, 1]) / 2)
    [votes] = figures["aime_2025_majority"].axes[0].get_lines()
    # Wrong answers of the item are -3 and -4, so two of the right three outvote them in any draw of 4 or 5.
    np.testing.assert_allclose(votes.get_ydata()[[0, 3, 4]], np.array([0.6, 1, 1]) / 2)


def test_years_are_points_from_four_on_and_bars_below(tmp_path):
    verdicts = {f"i{year}": [1] for year in range(2020, 2024)}
    groups = {item: {"year": int(item[1:])} for item in verdicts}
    figure = names(models(write_evaluation(tmp_path / "A", verdicts=verdicts, groups=groups)))["aime_2025_year"]
    assert not figure.axes[0].patches and figure.axes[0].get_xlabel() == "year"
    del verdicts["i2020"]
    figure = names(models(write_evaluation(tmp_path / "B", verdicts=verdicts, groups=groups)))["aime_2025_year"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [1, 1, 1]


def test_k_is_five_or_the_most_runs_that_there_are(tmp_path):
    one = models(write_evaluation(tmp_path / "A", verdicts=ONE_RUN))
    two = models(write_evaluation(tmp_path / "B"))
    five = models(write_evaluation(tmp_path / "C", verdicts={"a": [1] * 7}))
    assert [samples_drawn(found) for found in (one, two, five, [*one, *two])] == [1, 2, 5, 2]


def test_the_overview_shows_every_benchmark_with_published_figures_hollow(tmp_path):
    write_evaluation(tmp_path / "A", "my_task")
    [model] = models(write_evaluation(tmp_path / "A"))
    axes = overview_picture([model], 2).figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["AIME_2025", "MY_TASK"]
    hollow = [line.get_xdata()[0] for line in axes.get_lines() if line.get_markerfacecolor() == "white"]
    assert sorted(hollow) == pytest.approx([0.515, 0.631, 0.704, 0.714, 0.78, 0.825])


def test_checkpoints_are_drawn_over_their_steps(tmp_path):
    found = models(
        write_evaluation(tmp_path / "step-100", verdicts={"a": [0], "b": [0]}),
        write_evaluation(tmp_path / "step-200", verdicts={"a": [1], "b": [0]}),
    )
    accuracy, tokens, truncated = (picture.figure.axes[0].get_lines()[0] for picture in checkpoint_pictures(found))
    np.testing.assert_array_equal(accuracy.get_xdata(), [100, 200])
    np.testing.assert_array_equal(accuracy.get_ydata(), [0.0, 0.5])
    np.testing.assert_array_equal(tokens.get_ydata(), [200, 150])
    np.testing.assert_array_equal(truncated.get_ydata(), [0, 0])


def test_checkpoints_without_distinct_steps_are_refused(tmp_path):
    named = {label: f"{label}={write_evaluation(tmp_path / label)}" for label in ("run2-step-10", "final", "r3-10")}
    assert checkpoint_steps(read_models([named["run2-step-10"]])) == [10]
    with pytest.raises(UserError, match="'final' has no step in its name"):
        checkpoint_steps(read_models([named["final"]]))
    with pytest.raises(UserError, match="two folders are of the same step"):
        checkpoint_steps(read_models([named["run2-step-10"], named["r3-10"]]))
