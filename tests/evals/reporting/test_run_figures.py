import numpy as np
import pytest

from phi4r.evals.reporting.derived import OfK
from phi4r.evals.reporting.run_figures import Range, ranges_figure, runs_figure
from phi4r.evals.scores import Interval

PUBLISHED = {"o1": (0.7, 0.05), "DeepSeek-R1": (0.6, None)}


def points(axes) -> dict[tuple[float, ...], str]:
    """x of every line of markers -> its face."""
    return {
        tuple(line.get_xdata()): line.get_markerfacecolor() for line in axes.get_lines() if line.get_marker() != "None"
    }


def test_runs_are_counted_in_bars_and_have_mean_and_spread():
    figure = runs_figure({"A": [0.25, 0.5, 0.5]}, num_items=4, published=PUBLISHED, title="t")
    [axes] = figure.axes
    heights = np.array([bar.get_height() for bar in axes.patches])
    np.testing.assert_allclose(heights / heights.max(), [0.5, 1.0])
    assert [bar.get_x() for bar in axes.patches] == [0.125, 0.375], "a bin is around an accuracy that can be"
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["41.7 ± 14.4", "70.0 ± 5.0", "60.0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["A", "o1", "DeepSeek-R1"]
    spreads = [tuple(line.get_xdata()) for line in axes.get_lines() if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(spreads, [(0.4167 - 0.1443, 0.4167 + 0.1443), (0.65, 0.75)], atol=1e-4)


def test_models_far_apart_have_as_many_bars_as_one_alone():
    runs = {"A": [0.10, 0.12, 0.14, 0.16], "B": [0.80, 0.82, 0.84, 0.86]}
    figure = runs_figure(runs, num_items=100, published={}, title="t")
    # 8 bins over the 6 points of a model are bins of one possible accuracy, so no two runs share one.
    bars = [bar for bar in figure.axes[0].patches if bar.get_height()]
    assert len(bars) == 8
    np.testing.assert_allclose([bar.get_width() for bar in bars], 0.01)


def test_published_figures_are_hollow():
    figure = runs_figure({"A": [0.25, 0.5]}, num_items=4, published=PUBLISHED, title="t")
    faces = points(figure.axes[0])
    assert faces[(0.7,)] == faces[(0.6,)] == "white" and faces[(0.375,)] != "white"


@pytest.mark.parametrize("k", [1, 5])
def test_ranges_go_from_worst_to_best_with_average_and_majority(k):
    of_k = OfK(best=0.9, worst=0.1, majority=0.6) if k > 1 else None
    ranges = {"AIME": {"A": Range(0.5, Interval(0.4, 0.6), of_k), "B": Range(0.3, Interval(0.2, 0.4), None)}}
    figure = ranges_figure(ranges, published={"AIME": {"o1": 0.714}}, k=k, title="t")
    [axes] = figure.axes
    drawn = {tuple(line.get_xdata()) for line in axes.get_lines()}
    expected = {(0.4, 0.6), (0.2, 0.4), (0.5,), (0.3,), (0.714,)} | ({(0.1, 0.9), (0.6,)} if of_k else set())
    assert expected <= drawn and ((0.1, 0.9) in drawn) == (k > 1)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["A", "B", *([f"majority of {k}"] if k > 1 else []), "o1, published"]
    [name] = axes.get_yticklabels()
    assert name.get_text() == "AIME"
