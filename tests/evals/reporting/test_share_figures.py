import numpy as np

from phi4r.evals.reporting.share_figures import (
    Line,
    TokenPoint,
    band_figure,
    bars_figure,
    points_figure,
    tokens_figure,
)


def line(x, mean) -> Line:
    mean = np.array(mean)
    return Line(np.array(x, float), mean, mean - 0.1, mean + 0.1)


def legend(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()] if axes.get_legend() else []


def test_bands_lie_around_their_lines_over_powers_of_two():
    lines = {"A": line([1, 2, 3, 4], [0.3, 0.4, 0.5, 0.6]), "B": line([1, 2], [0.1, 0.2])}
    axes = band_figure(lines, title="t", x_label="samples k", powers=True).axes[0]
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), [0.3, 0.4, 0.5, 0.6])
    band = axes.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in band.round(6)} >= {(1.0, 0.2), (1.0, 0.4), (4.0, 0.5), (4.0, 0.7)}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4"]
    assert legend(axes) == ["A", "B"]


def test_points_of_models_stand_side_by_side_over_their_year():
    axes = points_figure(
        {"A": line([2023, 2024], [0.5, 0.7]), "B": line([2024], [0.4])}, title="t", x_label="year"
    ).axes[0]
    a, b = (marks for marks in axes.get_lines() if marks.get_marker() != "None")
    np.testing.assert_array_equal(a.get_ydata(), [0.5, 0.7])
    assert 2023.5 < a.get_xdata()[1] < 2024 < b.get_xdata()[0] < 2024.5


def test_bars_have_their_shares_and_whiskers_and_lack_what_was_not_measured():
    groups = {"algebra": {"A": (0.5, 0.4, 0.7), "B": (0.2, 0.1, 0.3)}, "sets": {"B": (0.6, 0.5, 0.7)}}
    figure = bars_figure(groups, title="t")
    [axes] = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.2, 0.6]
    ends = [np.array(segment)[:, 0] for whiskers in axes.collections for segment in whiskers.get_segments()]
    np.testing.assert_allclose(ends, [[0.4, 0.7], [0.1, 0.3], [0.5, 0.7]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["algebra", "sets"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first is on top"


def test_accuracy_stands_over_tokens_with_the_ends_of_the_levels_named():
    levels = [(100.0, 0.9, 1.0), (300.0, 0.6, 2.0), (500.0, 0.2, 3.0)]
    axes = tokens_figure({"A": TokenPoint(300.0, 0.6, 0.5, 0.7, levels)}, title="t").axes[0]
    assert [tuple(marks.get_xdata()) for marks in axes.get_lines() if marks.get_marker() == "o"] == [(300.0,)]
    [path] = [marks for marks in axes.get_lines() if marks.get_marker() == "."]
    np.testing.assert_array_equal(path.get_ydata(), [0.9, 0.6, 0.2])
    assert sorted(text.get_text() for text in axes.texts) == ["1", "3"]
    assert legend(axes) == ["A"]


def test_every_model_has_a_mark_of_its_own():
    lines = {f"m{number}": line([1, 2], [0.1 * number, 0.5]) for number in range(16)}
    axes = band_figure(lines, title="t", x_label="k").axes[0]
    assert len({(marks.get_marker(), marks.get_color()) for marks in axes.get_lines()}) == 16


def test_long_lines_are_marked_at_powers_of_two_and_few_levels_have_a_tick_each():
    k = np.arange(1, 51)
    axes = band_figure({"A": line(k, k / 100)}, title="t", x_label="k", powers=True).axes[0]
    assert [k[place] for place in axes.get_lines()[0].get_markevery()] == [1, 2, 4, 8, 16, 32]
    axes = points_figure({"A": line([1, 2, 3, 4, 5], [0.5] * 5)}, title="t", x_label="level").axes[0]
    np.testing.assert_array_equal(axes.get_xticks(), [1, 2, 3, 4, 5])


def test_names_are_shown_letter_by_letter():
    hostile = {"$\\frac{$": line([1], [0.5]), "_hidden": line([1], [0.2]), "a\ud800$x$": line([1], [0.1])}
    figure = band_figure(hostile, title="$x$ {", x_label="$")
    figure.savefig("/dev/null", format="svg")
    assert len(legend(figure.axes[0])) == 3
