import json

import pytest

from phi4r.curation.item import Item
from phi4r.curation.mixing.mixture import (
    ClusterCount,
    ClusterWeight,
    MixtureSettings,
    cluster_of,
    in_order,
    mixture_table,
)
from phi4r.errors import UserError
from phi4r.settings import build

MATH = (ClusterWeight("*/high", 3.0), ClusterWeight("*", 0.5))
CODE = (ClusterWeight("code/b/*", 0.0), ClusterWeight("*", 2.0))


def item(number, cluster="math/a/high"):
    return Item(f"i{number}", "p", meta={"clusters": {"cluster": cluster}})


def test_the_first_pattern_that_matches_decides():
    mixture = MixtureSettings((ClusterWeight("math/a/*", 2.0), ClusterWeight("math/*", 0.0)), default=1.5)
    clusters = ["math/a/high", "math/b/high", "code/a/high"]
    assert [mixture.epochs(cluster) for cluster in clusters] == [2.0, 0.0, 1.5]


def test_a_cluster_without_weight_is_refused_where_there_is_no_default():
    with pytest.raises(UserError, match="no weight for the cluster code/a/high"):
        MixtureSettings((ClusterWeight("math/*", 1.0),), default=None).epochs("code/a/high")


@pytest.mark.parametrize(("epochs", "expected"), [(0.0, {0}), (1.0, {1}), (2.0, {2}), (0.25, {0, 1}), (2.5, {2, 3})])
def test_an_item_comes_a_whole_number_of_times_whose_mean_is_the_weight(epochs, expected):
    mixture = MixtureSettings((ClusterWeight("*", epochs),))
    times = [mixture.times(item(number)) for number in range(4000)]
    assert set(times) == expected
    assert sum(times) / 4000 == pytest.approx(epochs, abs=4 * 0.5 / 4000**0.5)  # four standard deviations at most


def test_the_items_of_a_fraction_are_the_same_ones_and_those_of_a_smaller_fraction_among_them():
    def chosen(epochs, seed=0):
        mixture = MixtureSettings((ClusterWeight("*", epochs),), seed=seed)
        return {number for number in range(300) if mixture.times(item(number))}

    assert chosen(0.5) == chosen(0.5)
    assert chosen(0.2) < chosen(0.5)
    assert chosen(0.5) != chosen(0.5, seed=1)


def test_weights_that_were_tuned_apart_are_the_same_side_by_side():
    """The additive property: nothing about a domain changes when another one is added."""
    math, code = MixtureSettings(domains={"math": MATH}), MixtureSettings(domains={"code": CODE})
    both = MixtureSettings(domains={"math": MATH, "code": CODE})
    for number in range(200):
        for cluster in ("math/a/high", "math/b/low"):
            assert both.times(item(number, cluster)) == math.times(item(number, cluster))
        for cluster in ("code/a/high", "code/b/high"):
            assert both.times(item(number, cluster)) == code.times(item(number, cluster))
    assert [both.epochs(c) for c in ("math/x/high", "math/x/low", "code/a/high", "code/b/high", "safety")] == [
        3.0, 0.5, 2.0, 0.0, 1.0,
    ]  # fmt: skip


def test_weights_of_all_domains_come_before_those_of_one():
    assert MixtureSettings((ClusterWeight("*/a/*", 0.0),), {"math": MATH}).epochs("math/a/high") == 0.0


@pytest.mark.parametrize("weights", [("mth/*",), ("math/*", "math/a/*")])
def test_a_pattern_that_decides_nothing_is_refused(weights):
    mixture = MixtureSettings(tuple(ClusterWeight(pattern, 1.0) for pattern in weights))
    with pytest.raises(UserError, match=rf"{weights[-1].replace('*', '.')}' of the mixture decides about no cluster"):
        mixture.check_used(["math/a/high", "safety"])
    MixtureSettings((ClusterWeight("math/*", 1.0),)).check_used(["math/a/high", "safety"])


def test_safety_stands_last():
    clusters = ["safety", "science/a/high", "math/b/low", "math/a/high"]
    assert in_order(clusters, MixtureSettings()) == ["math/a/high", "math/b/low", "science/a/high", "safety"]


def test_the_table_by_hand():
    # 4 items of 10 tokens at 2.5 epochs: two come twice, two three times. 5 of 6 tokens once; 2 of 100 not at all.
    math = ClusterCount()
    for times in (2, 3, 3, 2):
        math = math.plus(10, times)
    counts = {"safety": ClusterCount(5, 30, 5, 5, 30), "math/a/high": math, "code/a/low": ClusterCount(2, 200)}
    assert math == ClusterCount(items=4, tokens=40, kept=4, drawn=10, drawn_tokens=100)
    settings = MixtureSettings((ClusterWeight("math/*", 2.5), ClusterWeight("code/*", 0.0)))
    table = mixture_table(counts, settings, unit="tokens")
    assert table.rows == [
        ["code/a/low", "2", "200", "0", "0", "0", "0.0", "0.0"],
        ["math/a/high", "4", "40", "2.5", "2.5", "10", "66.7", "76.9"],
        ["safety", "5", "30", "1", "1", "5", "33.3", "23.1"],
    ]
    assert "15 items with 130 tokens" in table.caption
    assert table.records[1]["token_share"] == 100 / 130


def test_an_item_that_has_no_cluster_is_named():
    with pytest.raises(UserError, match="item i7 has no cluster; run the stage 'clusters'"):
        cluster_of(Item("i7", "p"))


def test_the_config_section_becomes_settings():
    section = {
        "weights": [{"pattern": "safety", "epochs": 1}],
        "domains": {"math": [{"pattern": "*", "epochs": 2}]},
        "default": None,
    }
    built = build(MixtureSettings, json.loads(json.dumps(section)), where="config.mixture")
    assert (built.epochs("math/a/b"), built.epochs("safety")) == (2.0, 1.0)


@pytest.mark.parametrize(("pattern", "epochs"), [("", 1.0), ("math/*", -0.5), ("math/*", float("nan"))])
def test_bad_weights_are_refused(pattern, epochs):
    with pytest.raises(UserError):
        ClusterWeight(pattern, epochs)
