import pickle
import random

import numpy as np
import pytest

from phi4r.curation.item import Item
from phi4r.curation.mixing.clusters import ClusterSettings, ClusterStage, QualityRule, make_cluster_stage
from phi4r.curation.mixing.topics import fit_topics
from phi4r.curation.stage import ItemStage
from phi4r.errors import UserError
from phi4r.settings import build


def clusters(stage, *items):
    return [outcome.item.meta["clusters"]["cluster"] for outcome in stage(items)]


def item(id="i", prompt="p", *, source="gsm8k", domain="math", **meta):
    return Item(id, prompt, source=source, domain=domain, meta=meta)


def test_a_cluster_is_domain_source_and_quality_and_all_items_are_kept():
    settings = ClusterSettings(quality=(QualityRule("high", "rubric.complexity", at_least=4.0),))
    [outcome] = ClusterStage(settings)([item(rubric={"complexity": 4})])
    assert outcome.kept
    assert outcome.item.meta == {
        "rubric": {"complexity": 4},
        "clusters": {"domain": "math", "source": "gsm8k", "quality": "high", "cluster": "math/gsm8k/high"},
    }
    assert isinstance(ClusterStage(settings), ItemStage)


def test_the_first_rule_that_holds_gives_the_quality():
    settings = ClusterSettings(
        quality=(
            QualityRule("high", "rubric.complexity", at_least=4.0, below=6.0),
            QualityRule("clear", "rubric.verdict", equals="yes"),
            QualityRule("low", "rubric.complexity", below=4.0),
        )
    )
    found = clusters(
        ClusterStage(settings),
        item(rubric={"complexity": 4.0, "verdict": "yes"}),
        item(rubric={"complexity": 6.0, "verdict": "yes"}),
        item(rubric={"complexity": 3.9, "verdict": "no"}),
        item(rubric={"complexity": 6.0}),
        item(rubric={"complexity": "5"}),  # a text is no number
        item(rubric=3),
        item(),
    )
    assert [name.rpartition("/")[2] for name in found] == ["high", "clear", "low", *["unrated"] * 4]


def test_labels_come_before_rules_and_the_domain_of_the_item():
    settings = ClusterSettings(
        domain_field="labels.topic",
        domains={"algebra": "math", "Chem 101": "science"},
        quality_field="labels.quality",
        quality=(QualityRule("high", "x", at_least=0.0),),
    )
    found = clusters(
        ClusterStage(settings),
        item(domain="d", labels={"topic": "algebra", "quality": "gold"}, x=1),
        item(domain="d", labels={"topic": "Chem 101"}, x=1),
        item(domain="algebra", x=1),  # no label: the item's own domain, by the same map
        item(domain="d", source="", labels={"topic": "poetry, modern"}),
        item(domain="", source="a/b"),
    )
    assert found == [
        "math/gsm8k/gold",
        "science/gsm8k/high",
        "math/gsm8k/high",
        "poetry_modern/other/unrated",
        "other/a_b/unrated",
    ]


def test_safety_is_one_cluster_whatever_its_source_and_quality():
    stage = ClusterStage(ClusterSettings())
    first, second = item(domain="safety", source="a"), item(domain="safety", source="b", rubric={"complexity": 5})
    assert clusters(stage, first, second) == ["safety", "safety"]
    assert clusters(ClusterStage(ClusterSettings(safety_domain="")), first) == ["safety/a/unrated"]


GEOMETRY = ["triangle angle circle", "circle radius area", "area of a triangle", "angle in a circle"]
MONEY = ["price of apples dollars", "dollars and cents", "price in dollars", "apples cost cents"]


def seeds():
    rng = random.Random(0)
    texts = [(kind, " ".join(rng.sample(words, 2))) for kind, words in (("g", GEOMETRY), ("m", MONEY)) * 30]
    return [Item(f"{kind}{number}", f"{text} {number:03d}") for number, (kind, text) in enumerate(texts)]


@pytest.fixture(scope="module")
def topic_stage():
    pytest.importorskip("sklearn", reason="topics need scikit-learn")
    return make_cluster_stage(ClusterSettings(num_topics=2), read=lambda: iter(seeds()))


def test_topics_tell_subjects_apart(topic_stage):
    found = clusters(topic_stage, *seeds())
    by_kind = {kind: {name for name, seed in zip(found, seeds(), strict=True) if seed.id[0] == kind} for kind in "gm"}
    assert len(by_kind["g"]) == len(by_kind["m"]) == 1 and by_kind["g"] != by_kind["m"]
    [geometry] = by_kind["g"]
    assert geometry.startswith("other/other/unrated/0")
    assert geometry.partition("-")[2] in {"triangle", "circle", "angle", "area"}


def test_the_topic_is_the_same_in_any_batch_and_after_a_trip_to_a_worker(topic_stage):
    whole = clusters(topic_stage, *seeds())
    assert [clusters(topic_stage, seed)[0] for seed in seeds()] == whole
    assert clusters(pickle.loads(pickle.dumps(topic_stage)), *seeds()) == whole


def test_topics_do_not_depend_on_the_order_of_the_input():
    pytest.importorskip("sklearn", reason="topics need scikit-learn")
    options = dict(num_topics=3, sample_size=20, max_words=100, seed=1)
    shuffled = seeds()
    random.Random(1).shuffle(shuffled)
    first, second = fit_topics(seeds(), **options), fit_topics(iter(shuffled), **options)
    assert first.names == second.names
    np.testing.assert_array_equal(first.centres, second.centres)
    other = fit_topics(seeds(), **{**options, "seed": 2})
    assert first.centres.shape != other.centres.shape or not np.array_equal(first.centres, other.centres)


def test_the_sample_of_the_fit_is_bounded():
    """Words that only the rest has are unknown to the topics."""
    pytest.importorskip("sklearn", reason="topics need scikit-learn")
    many = [Item(f"i{number}", f"word{number} here") for number in range(50)]
    topics = fit_topics(many, num_topics=2, sample_size=10, max_words=1000, seed=0)
    assert topics.centres.shape == (2, 11)  # ten words of their own, and "here"


def test_prompts_without_words_are_refused():
    pytest.importorskip("sklearn", reason="topics need scikit-learn")
    with pytest.raises(UserError, match=r"1 prompts without a word .* set clusters.num_topics=0"):
        make_cluster_stage(ClusterSettings(num_topics=2), read=lambda: iter([item(prompt="1 + 1 =")]))


def test_the_input_is_not_read_without_topics():
    (outcome,) = make_cluster_stage(ClusterSettings(), read=None)([item()])  # which would not do as a function
    assert "topic" not in outcome.item.meta["clusters"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"num_topics": 1}, "num_topics=1 must be 0, for no topics, or at least 2"),
        ({"topic_sample": 0}, "topic_sample=0 must be at least 1"),
        ({"quality": ({"name": "high", "field": "a.b"},)}, "'high' of clusters.quality asks nothing"),
        ({"quality": ({"name": "", "field": "a.b"},)}, "needs a name and a field"),
        ({"topics": 4}, "config.clusters.topics is not a setting; did you mean"),
    ],
)
def test_bad_settings_are_refused(section, message):
    with pytest.raises(UserError, match=message):
        build(ClusterSettings, section, where="config.clusters")
