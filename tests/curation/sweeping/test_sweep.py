"""Grids, effects and resumption on a stubbed experiment, whose scores are a formula of its config."""

import csv
import json

import pytest

from configs import sweep as sweep_config
from phi4r.curation.sweeping import sweep
from phi4r.curation.sweeping.sweep_effects import Additivity, additivity, main_effects
from phi4r.curation.sweeping.sweep_settings import FactorSettings, SweepSettings, plan_runs, with_value
from phi4r.errors import UserError
from phi4r.settings import build
from phi4r.train.preemption import Preempted

MATH = FactorSettings("math", "data.sources.0.weight", (0.0, 1.0))
PUZZLES = FactorSettings("puzzles", "data.sources.1.weight", (0.0, 1.0), labels=("none", "all"))
# Scores in eighths are exact in binary: base 1/8, math alone +2/8, puzzles alone +1/8, both +4/8 rather than +3/8.
SCORES = {(0, 0): 0.125, (1, 0): 0.375, (0, 1): 0.25, (1, 1): 0.625}


def settings(**changes) -> SweepSettings:
    section = sweep_config.get_config().to_dict()
    section.pop("experiment")
    section |= {"traces": {}, "random_base": {}, **changes}
    return build(SweepSettings, section, where="config")


class Experiment:
    """Stands for `phi4r.main.run_experiment`: notes what it is asked, and scores by the weights of the sources."""

    def __init__(self, failing=()):
        self.trained, self.evaluated, self.failing = [], [], dict(failing)

    def __call__(self, config, workdir):
        name = workdir.name if config.experiment == "sft" else workdir.parent.name
        if config.experiment == "sft":
            self.trained.append(name)
            if name in self.failing:
                raise self.failing[name]
            return {}
        self.evaluated.append((name, config.model))
        cell = (int("math-1" in name), int("puzzles-1" in name))
        interval = {"low": SCORES[cell] - 0.1, "high": SCORES[cell] + 0.1}
        scores = {"math": SCORES[cell], "puzzles": SCORES[cell] / 2 + config.seed / 16}
        return {task: {"accuracy": score, "interval": interval} for task, score in scores.items()}


def all_four(seed=0):
    return [f"math-{m}_puzzles-{p}_seed-{seed}" for m in (0, 1) for p in (0, 1)]


def test_a_grid_is_all_combinations_with_all_seeds():
    plans = plan_runs(settings(seeds=(3, 4)))
    assert [(plan.levels, plan.seed) for plan in plans] == [
        ((m, p), seed) for m in ("0", "1") for p in ("0", "1") for seed in (3, 4)
    ]
    assert plans[0].name == "math-0_puzzles-0_seed-3"


def test_sources_without_weight_are_left_out_and_steps_go_with_the_weights():
    base, puzzles, math, both = plan_runs(settings(steps_per_weight=7))
    assert base.sft is None  # nothing to train on
    assert [source["spec"] for source in puzzles.sft["data"]["sources"]] == ["jsonl:{workdir}/problems/puzzles.jsonl"]
    assert [source["spec"] for source in math.sft["data"]["sources"]] == ["jsonl:{workdir}/problems/math.jsonl"]
    assert [plan.sft["num_steps"] for plan in (puzzles, math, both)] == [7, 7, 14]
    assert [plan.sft["num_steps"] for plan in plan_runs(settings(steps_per_weight=0))[1:]] == [250, 250, 250]


def test_any_key_can_be_a_factor_and_several_change_together():
    rate = {"name": "rate", "key": "optimizer.learning_rate", "values": (1e-3, 2e-3)}
    pair = {"name": "pair", "key": "num_steps data.sources.1.weight", "values": ((5, 1.0), (9, 0.5))}
    seconds = plan_runs(settings(factors=(rate, pair), steps_per_weight=0))
    assert [plan.sft["optimizer"]["learning_rate"] for plan in seconds] == [1e-3, 1e-3, 2e-3, 2e-3]
    assert [plan.sft["num_steps"] for plan in seconds] == [5, 9, 5, 9]
    assert seconds[1].sft["data"]["sources"][1]["weight"] == 0.5
    assert seconds[1].name == "rate-0.001_pair-90.5_seed-0"


def test_a_changed_config_leaves_the_base_as_it_was():
    base = {"a": {"b": ({"c": 1}, {"c": 2})}}
    assert with_value(base, "a.b.1.c", 5, where="") == {"a": {"b": ({"c": 1}, {"c": 5})}}
    assert with_value(base, "a.new", 5, where="")["a"]["new"] == 5  # a setting that the file leaves at its default
    assert base == {"a": {"b": ({"c": 1}, {"c": 2})}}


@pytest.mark.parametrize("key", ["optimiser.learning_rate", "data.sources.2.weight", "seed.x", "data.sources.x.weight"])
def test_a_key_that_is_not_there_is_refused(key):
    with pytest.raises(UserError, match=rf"the key '{key}' of the sweep is not in its base config"):
        plan_runs(settings(factors=({"name": "x", "key": key, "values": (1, 2)},)))


def scores_of(cells, seed=0):
    return {(tuple(map(str, cell)), seed): score for cell, score in cells.items()}


FACTORS = (MATH, FactorSettings("puzzles", "data.sources.1.weight", (0.0, 1.0)))


def test_main_effects_by_hand():
    found = {(one.factor, one.level): (one.mean, one.effect) for one in main_effects(scores_of(SCORES), FACTORS)}
    assert found == {
        ("math", "0"): (0.1875, 0.0),  # (1 + 2) / 8 / 2
        ("math", "1"): (0.5, 0.3125),  # (3 + 5) / 8 / 2
        ("puzzles", "0"): (0.25, 0.0),  # (1 + 3) / 8 / 2
        ("puzzles", "1"): (0.4375, 0.1875),  # (2 + 5) / 8 / 2
    }


def test_the_additive_prediction_by_hand():
    [one] = additivity(scores_of(SCORES), FACTORS)
    assert one == Additivity(("1", "1"), 0.125, (0.375, 0.25), predicted=0.5, measured=0.625, sd=None)
    assert one.interaction == 0.125


def test_gains_that_add_up_have_no_interaction_and_three_factors_add_up_too():
    third = FactorSettings("code", "x", (0, 1))
    scores = {((m, p, c), 0): 1 + 2 * int(m) + 4 * int(p) + 8 * int(c) for m in "01" for p in "01" for c in "01"}
    found = {one.levels: one for one in additivity(scores, (*FACTORS, third))}
    assert set(found) == {("1", "1", "0"), ("1", "0", "1"), ("0", "1", "1"), ("1", "1", "1")}
    assert found["1", "1", "1"].alone == (3, 5, 9) and found["1", "1", "1"].predicted == 15
    assert all(one.interaction == 0 for one in found.values())


def test_the_interaction_has_its_spread_over_seeds():
    less = {**SCORES, (1, 1): 0.375}  # interaction -1/8 for this seed, 1/8 for the other
    [one] = additivity({**scores_of(SCORES, 0), **scores_of(less, 1)}, FACTORS)
    assert one.interaction == 0.0
    assert one.sd == pytest.approx(0.125 * 2**0.5)


def test_a_combination_whose_parts_are_missing_is_left_out():
    scores = scores_of(SCORES)
    del scores[("0", "1"), 0]
    assert additivity(scores, FACTORS) == []
    assert [one.effect for one in main_effects({(("1", "1"), 0): 0.5}, FACTORS)] == [None, None]


def test_a_sweep_runs_evaluates_and_reports_every_run(tmp_path):
    experiment = Experiment()
    summary = sweep.run_sweep(settings(), tmp_path, run_experiment=experiment)
    assert experiment.trained == all_four()[1:]
    models = [f"{tmp_path}/runs/{name}/params" for name in all_four()]
    assert experiment.evaluated == list(zip(all_four(), ["{workdir}/base", *models[1:]], strict=True))
    assert json.loads(json.dumps(summary)) == json.loads((tmp_path / "sweep.json").read_text())
    assert summary["missing"] == []
    [gap] = summary["additivity"]["math"]
    assert (gap["predicted"], gap["measured"], gap["interaction"]) == (0.5, 0.625, 0.125)
    report = tmp_path / "report"
    assert {path.name for path in report.iterdir()} == {
        "report.html",
        *(f"{name}.{kind}" for name in ("runs", "effects", "additivity") for kind in ("md", "csv")),
        *(f"{name}.{kind}" for name in ("mixtures", "scores") for kind in ("png", "svg")),
    }
    assert (report / "mixtures.png").read_bytes().startswith(b"\x89PNG")
    row = "| math | math 1 + puzzles 1 | 12.5 | 37.5, 25.0 | 50.0 | 62.5 | +12.5 |"
    assert row in (report / "additivity.md").read_text()
    assert "| math | 1 | 2 | 50.0 (+31.2) | 25.0 (+15.6) |" in (report / "effects.md").read_text()
    page = (report / "report.html").read_text()
    assert page.count("<img ") == 2 and "Do gains add up?" in page and "not finished" not in page
    with (report / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["math"], float(row["math_score"])) for row in rows] == [
        (name, name[5], SCORES[int("math-1" in name), int("puzzles-1" in name)]) for name in all_four()
    ]


def test_a_second_sweep_runs_nothing_and_more_seeds_run_what_is_new(tmp_path):
    sweep.run_sweep(settings(), tmp_path, run_experiment=Experiment())
    again = Experiment()
    first = sweep.run_sweep(settings(), tmp_path, run_experiment=again)
    assert (again.trained, again.evaluated) == ([], [])
    more = Experiment()
    summary = sweep.run_sweep(settings(seeds=(0, 2)), tmp_path, run_experiment=more)
    assert more.trained == all_four(seed=2)[1:]
    [before], [after] = first["additivity"]["puzzles"], summary["additivity"]["puzzles"]
    assert before["sd"] is None and after["sd"] == 0.0
    assert after["base"] == before["base"] + 1 / 16  # the mean over seeds 0 and 2, which adds 2/16


def test_a_sweep_under_another_config_is_refused_before_anything_is_run(tmp_path):
    sweep.run_sweep(settings(), tmp_path, run_experiment=Experiment())
    with pytest.raises(UserError, match=r"holds a run with sft.num_steps=250, not 9; use another --workdir"):
        sweep.run_sweep(settings(steps_per_weight=9), tmp_path, run_experiment=None)


def test_a_failed_run_is_named_the_others_run_and_it_is_run_again(tmp_path):
    failing = {all_four()[1]: UserError("the disk is on fire."), all_four()[2]: RuntimeError("a\nbug")}
    experiment = Experiment(failing)
    message = rf"2 of 4 runs failed \({all_four()[1]}, {all_four()[2]}\); {all_four()[1]}: the disk is on fire. Mend"
    with pytest.raises(UserError, match=message):
        sweep.run_sweep(settings(), tmp_path, run_experiment=experiment)
    assert experiment.trained == all_four()[1:]
    assert (tmp_path / "runs" / all_four()[1] / "failed.txt").read_text() == "the disk is on fire.\n"
    assert "Traceback" in (tmp_path / "runs" / all_four()[2] / "failed.txt").read_text()
    page = (tmp_path / "report" / "report.html").read_text()
    assert f"2 of 4 runs are not finished, so effects are of the others: {all_four()[1]}, {all_four()[2]}." in page
    assert json.loads((tmp_path / "sweep.json").read_text())["additivity"] == {"math": [], "puzzles": []}
    mended = Experiment()
    assert sweep.run_sweep(settings(), tmp_path, run_experiment=mended)["missing"] == []
    assert mended.trained == all_four()[1:3]
    assert not list(tmp_path.glob("runs/*/failed.txt"))


def test_a_sweep_stops_at_a_failure_where_it_is_told_to(tmp_path):
    experiment = Experiment({all_four()[1]: UserError("no.")})
    with pytest.raises(UserError, match="1 of 4 runs failed"):
        sweep.run_sweep(settings(on_failure="stop"), tmp_path, run_experiment=experiment)
    assert experiment.trained == [all_four()[1]]


def test_a_sweep_that_is_told_to_stop_stops(tmp_path):
    experiment = Experiment({all_four()[1]: Preempted(3)})
    with pytest.raises(Preempted):
        sweep.run_sweep(settings(), tmp_path, run_experiment=experiment)
    assert experiment.trained == [all_four()[1]]


def test_parts_share_the_runs_of_a_workdir(tmp_path):
    first, second = Experiment(), Experiment()
    summary = sweep.run_sweep(settings(num_parts=2), tmp_path, run_experiment=first)
    assert summary["missing"] == all_four()[1::2]
    summary = sweep.run_sweep(settings(num_parts=2, part=1), tmp_path, run_experiment=second)
    assert summary["missing"] == []
    assert [name for name, _ in first.evaluated + second.evaluated] == all_four()[::2] + all_four()[1::2]


def test_a_config_that_does_not_fit_is_refused_before_anything_is_run(tmp_path):
    bad = {"name": "rate", "key": "optimizer.learning_rat", "values": (1.0, 2.0)}
    with pytest.raises(UserError, match=r"config.base.optimizer.learning_rat is not a setting; did you mean"):
        sweep.run_sweep(settings(factors=(bad,)), tmp_path / "new", run_experiment=None)
    assert not (tmp_path / "new").exists()


def test_the_score_of_a_domain_is_the_mean_of_its_tasks(tmp_path):
    results = {"a": {"accuracy": 0.25}, "b": {"accuracy": 0.75}, "c": {"accuracy": 0.5}}
    assert sweep.domain_scores(results, {"math": "a b", "code": "c"}) == {"math": 0.5, "code": 0.5}
    assert sweep.domain_scores(results, {}) == {"a": 0.25, "b": 0.75, "c": 0.5}
    with pytest.raises(UserError, match=r"domains.math names the task 'd', which was not evaluated; there are a, b, c"):
        sweep.domain_scores(results, {"math": "a d"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factors": ()}, "at least one factor"),
        ({"factors": (MATH, MATH)}, "no two of one name"),
        ({"seeds": ()}, "must be at least one"),
        ({"num_parts": 2, "part": 2}, "part=2 must be from 0 to num_parts - 1, which is 1"),
        ({"factors": ({"name": "x", "key": "a b", "values": (1, 2)},)}, "has 2 keys; 1 is no value for each"),
        ({"factors": ({"name": "x", "key": "a", "values": (1, 1)},)}, "two levels of the factor x have one label"),
        ({"factors": ({"name": "x", "key": "a", "values": (1, 2), "labels": ("y",)},)}, "1 labels for 2 values"),
        ({"factors": ({"name": "x", "key": "a", "values": ()},)}, "has no values"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        settings(**changes)


def test_levels_whose_names_become_one_folder_are_refused():
    factor = {"name": "x", "key": "seed", "values": (1, 2), "labels": ("a/b", "a b")}
    with pytest.raises(UserError, match="two runs of the sweep have one name"):
        plan_runs(settings(factors=(factor,)))
