import numpy as np
import pytest

from phi4r.evals.reporting.figures import curve_figure, interval_figure, running_mean, scatter_figure
from phi4r.evals.scores import Interval


@pytest.mark.parametrize(
    "width, expected",
    [(1, [1, 2, 6, 3, 8]), (3, [1.5, 3, 11 / 3, 17 / 3, 5.5]), (2, [1, 1.5, 4, 4.5, 5.5])],
)
def test_the_running_mean_shrinks_at_the_ends(width, expected):
    np.testing.assert_allclose(running_mean(np.array([1.0, 2, 6, 3, 8]), width), expected)


def test_a_gap_stays_a_gap_and_leaves_its_neighbours_alone():
    nan = np.nan
    np.testing.assert_allclose(running_mean(np.array([1.0, nan, 3.0, 5.0]), 3), [1, nan, 4, 4])


def test_curves_show_the_points_that_they_were_given():
    figure = curve_figure({"a": ([1, 2, 3], [0.5, None, 1.0]), "b": ([1, 3], [0.2, 0.4])}, title="t", percent=True)
    first, second = figure.axes[0].get_lines()
    np.testing.assert_array_equal(first.get_ydata(), [0.5, np.nan, 1.0])
    np.testing.assert_array_equal(second.get_xdata(), [1, 3])
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["a", "b"]


def test_only_long_curves_are_smoothed_and_the_raw_points_stay_visible():
    x = list(range(48))
    y = [float(i % 2) for i in x]
    figure = curve_figure({"long": (x, y), "short": (x[:10], y[:10])}, title="t", smooth=True)
    raw, smooth, short = figure.axes[0].get_lines()
    np.testing.assert_array_equal(raw.get_ydata(), y)
    np.testing.assert_allclose(smooth.get_ydata()[4:44], 0.5)
    np.testing.assert_array_equal(short.get_ydata(), y[:10])


def test_bars_have_their_shares_and_whiskers_their_intervals():
    groups = {
        "base": {"greedy": (0.1, Interval(0.05, 0.2)), "T = 0.8": (0.12, None)},
        "SFT": {"T = 0.8": (0.6, Interval(0.5, 0.7))},
    }
    axes = interval_figure(groups, title="t").axes[0]
    assert [[bar.get_height() for bar in bars.patches] for bars in axes.containers if hasattr(bars, "patches")] == [
        [0.1],
        [0.12, 0.6],
    ]
    ends = [np.array(segment)[:, 1] for whiskers in axes.collections for segment in whiskers.get_segments()]
    np.testing.assert_allclose(ends, [[0.05, 0.2], [0.12, 0.12], [0.5, 0.7]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["base", "SFT"]


def test_scattered_points_are_coloured_by_step():
    figure = scatter_figure([0.1, 0.2], [None, 5.0], [1, 9], title="t", x_label="x", y_label="y")
    points = figure.axes[0].collections[0]
    np.testing.assert_array_equal(points.get_array(), [1, 9])
    first, second = points.get_offsets().filled(np.nan)
    assert np.isnan(first[1]), "a step without a value has no point"
    np.testing.assert_array_equal(second, [0.2, 5.0])


def test_shares_are_labelled_in_percent_without_needless_digits():
    figure = curve_figure({"a": ([1, 2], [0.0, 0.02])}, title="t", percent=True)
    figure.canvas.draw()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert {"0%", "0.5%", "1%", "1.5%", "2%"} <= set(labels)
