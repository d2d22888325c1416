import csv
import io

import pytest

from phi4r.evals.reporting.collected import read_models
from phi4r.evals.reporting.derived import all_groups
from phi4r.evals.reporting.result_tables import (
    apart_table,
    by_model,
    comparison_table,
    group_table,
    results_tables,
    scores_table,
    summary_table,
    task_names,
)
from tests.evals.reporting.folders import VERDICTS, write_evaluation

CUT = {("d", 1): {"finish_reason": "length", "answer": None, "status": "no_answer"}}


def rows(table) -> list[dict[str, str]]:
    """The table as a reader sees it."""
    header = list(map(str, table.header))
    return [dict(zip(header, map(str, row), strict=True)) for row in table.rows]


def records(table) -> list[dict[str, str]]:
    """The table as a program reads it."""
    return list(csv.DictReader(io.StringIO(table.csv())))


def models(*folders):
    return read_models([str(folder) for folder in folders])


@pytest.fixture
def two_models(tmp_path):
    """B is right where A is, and in both runs of item c besides."""
    a = write_evaluation(tmp_path / "A", changes=CUT)
    return models(a, write_evaluation(tmp_path / "B", verdicts={**VERDICTS, "c": [1, 1]}))


def test_results_stand_beside_the_published_ones_with_items_runs_and_truncation(two_models):
    [(heading, table)] = results_tables(two_models)
    assert heading == "Reasoning benchmarks (Table 1, Figure 8)"
    assert rows(table) == [
        {
            "benchmark": "AIME_2025",
            "A": "37.5 (17.7) [N 4, 2 runs, 12.5% cut]",
            "B": "62.5 (17.7) [N 4, 2 runs, 0.0% cut]",
            "Phi-4-reasoning [published]": "63.1 (6.3)",
            "Phi-4-reasoning-plus [published]": "78.0 (4.6)",
            "R1-Distill-70B [published]": "51.5 (5.8)",
            "DeepSeek-R1 [published]": "70.4 (4.3)",
            "o1 [published]": "71.4 (5.7)",
            "o3-mini-high [published]": "82.5 (4.9)",
        }
    ]


def test_the_results_of_an_unfinished_evaluation_say_of_how_many_items(tmp_path):
    [(_, table)] = results_tables(models(write_evaluation(tmp_path / "A", num_items=30)))
    assert rows(table)[0]["A"] == "37.5 (17.7) [N 4 of 30, 2 runs, 0.0% cut]"


def test_programs_read_ours_and_the_published_ones_as_plain_numbers(two_models):
    [(_, table)] = results_tables(two_models)
    a, b, published, *others = records(table)
    assert (a["model"], a["published"], a["value"], a["items"], a["runs"]) == ("A", "no", "0.375", "4", "2")
    # Runs of 2/4 and 1/4: the sample sd is (1/4) / sqrt(2); one response of eight was cut.
    assert (a["sd_over_runs"], a["truncated"], a["mean_tokens"]) == ("0.176777", "0.125", "162.5")
    assert float(a["low"]) < 0.375 < float(a["high"]) and b["value"] == "0.625"
    assert list(published.values())[:6] == ["AIME_2025", "Phi-4-reasoning", "yes", "share", "0.631", "0.063"]
    assert len(others) == 5 and published["items"] == ""


def test_tables_hold_the_benchmarks_that_were_asked_in_the_order_of_the_report(tmp_path):
    for task in ("mine", "ifeval", "maze", "aime_2025"):
        write_evaluation(tmp_path / "A", task)
    [model] = models(tmp_path / "A")
    assert task_names([model]) == ["aime_2025", "maze", "ifeval", "mine"]
    tables = dict(results_tables([model]))
    assert [[row["benchmark"] for row in rows(table)] for table in tables.values()] == [
        ["AIME_2025", "MAZE"],
        ["IFEVAL"],
        ["MINE"],
    ]
    assert list(rows(tables["Other tasks"])[0]) == ["benchmark", "A"]
    assert rows(tables["Reasoning benchmarks (Table 1, Figure 8)"])[1]["o1 [published]"] == ""


def test_a_rating_is_shown_as_one_and_never_as_an_accuracy(tmp_path):
    write_evaluation(tmp_path / "A", "codeforces", results={"summary": {"elo": 1500.4}})
    write_evaluation(tmp_path / "B", "codeforces")
    [(_, table)] = results_tables(models(tmp_path / "A", tmp_path / "B"))
    [row] = rows(table)
    assert row["benchmark"] == "CODEFORCES [Elo]" and row["Phi-4-reasoning [published]"] == "1736"
    assert row["A"].startswith("1500 [") and row["B"].startswith("no rating [")
    a, b, published, *_ = records(table)
    assert (a["unit"], a["value"], b["value"], published["value"]) == ("Elo", "1500.4", "", "1736")


def test_statistics_are_those_worked_by_hand(two_models):
    row, _ = rows(scores_table(two_models, 2))
    del row["95% interval"], row["two-level"]
    assert row == {
        "benchmark": "AIME_2025",
        "model": "A",
        "accuracy": "37.5",
        "sd over runs": "17.7",
        "items": "4",
        "runs": "2",
        "worst run": "25.0",
        "best run": "50.0",
        "all of 2": "25.0",
        "majority of 2": "37.5",  # item a is right, item b a tie
        "one of 2": "50.0",
        "truncated": "12.5",
        "no answer": "12.5",
        "not judged": "0",
        "mean tokens": "162",  # 3 x 100 and 5 x 200
        "tokens, right": "100",
        "tokens, wrong": "200",
    }


def test_statistics_are_plain_numbers_for_programs(two_models):
    row, _ = records(scores_table(two_models, 2))
    shown = ("accuracy", "all_of_k", "majority_of_k", "one_of_k", "truncated", "mean_tokens_wrong", "num_no_answer")
    assert [row[name] for name in shown] == ["0.375", "0.25", "0.375", "0.5", "0.125", "200", "1"]


def test_one_run_has_wilsons_interval_and_no_spread(tmp_path):
    verdicts = {"a": [1], "b": [0], "c": [0], "d": [0]}
    [row] = rows(scores_table(models(write_evaluation(tmp_path / "A", verdicts=verdicts)), 1))
    # Centre (0.25 + z^2/8) / (1 + z^2/4) and half width of 1 in 4, for z = 1.96.
    assert row["95% interval"] == "4.6 to 69.9" and row["sd over runs"] == row["two-level"] == ""
    assert not any(name.startswith(("all of", "majority")) for name in row)


def test_responses_that_the_verifier_could_not_judge_are_counted(tmp_path):
    changes = {("c", 0): {"status": "timeout"}, ("c", 1): {"status": "error"}}
    [row] = rows(scores_table(models(write_evaluation(tmp_path / "A", changes=changes)), 2))
    assert (row["not judged"], row["no answer"], row["accuracy"]) == ("2", "0.0", "37.5")


def test_groups_have_a_line_each(two_models):
    groups = all_groups(by_model(two_models, "aime_2025"))
    years = rows(group_table("aime_2025", "year", groups["year"]))
    assert [(row["year"], row["items"], row["A"][:4], row["B"][:4]) for row in years] == [
        ("2023", "2", "75.0", "75.0"),
        ("2024", "2", "0.0 ", "50.0"),
    ]
    fields = rows(group_table("aime_2025", "field", groups["field"]))
    assert [(row["field"], row["items"], row["A"][:4]) for row in fields] == [
        ("algebra", "4", "37.5"),
        ("sets", "2", "0.0 "),
    ]
    table = group_table("aime_2025", "year", groups["year"])
    assert "An interval without width" in table.caption, "A is wrong on all items of 2024"
    assert (
        "without width"
        not in group_table("aime_2025", "field", {"A": {"algebra": groups["field"]["A"]["algebra"]}}).caption
    )
    found = records(table)
    lengths = [(r["group"], r["model"], r["mean_tokens_right"], r["mean_tokens_wrong"], r["truncated"]) for r in found]
    assert lengths == [
        ("2023", "A", "100", "200", "0"),
        ("2024", "A", "", "200", "0.25"),
        ("2023", "B", "100", "200", "0"),
        ("2024", "B", "100", "200", "0"),
    ]


def test_models_are_compared_pair_by_pair(two_models, tmp_path):
    [row] = rows(comparison_table(two_models, first_only=False))
    assert (row["model"], row["against"], row["points"], row["common items"]) == ("B", "A", "+25.0", "4")
    assert row["p"] == "1", "one item differs, and either sign is as likely"
    three = [*two_models, *models(write_evaluation(tmp_path / "C"))]
    pairs = [(row["model"], row["against"]) for row in rows(comparison_table(three, first_only=False))]
    assert pairs == [("B", "A"), ("C", "A"), ("C", "B")]
    with_first = [(row["model"], row["against"]) for row in rows(comparison_table(three, first_only=True))]
    assert with_first == [("B", "A"), ("C", "A")]
    assert comparison_table(two_models[:1], first_only=False) is None
    [row] = records(comparison_table(two_models, first_only=False))
    assert (row["difference"], row["p"], row["same_problems"]) == ("0.25", "1", "yes")


def test_a_comparison_of_different_sets_of_problems_says_so(tmp_path):
    a, b = write_evaluation(tmp_path / "A"), write_evaluation(tmp_path / "B", problems="p1")
    table = comparison_table(models(a, b), first_only=False)
    assert rows(table)[0]["common items"] == "4 [problems differ]" and "paired by id alone" in table.caption
    assert records(table)[0]["same_problems"] == "no"


def test_figures_of_judges_have_a_table_of_their_own(tmp_path):
    results = {"judge": {"win_rate": 0.52, "judged": 8.0}, "summary": {"strict": 0.25}}
    [model] = models(write_evaluation(tmp_path / "A", "arena_hard", results=results))
    published = "Phi-4-reasoning 73.3, Phi-4-reasoning-plus 79.0, o3-mini-high 81.9"
    assert [list(row.values()) for row in rows(apart_table([model]))] == [
        ["ARENA_HARD", "A", "judge", "win_rate", "0.52", published],
        ["ARENA_HARD", "A", "judge", "judged", "8", ""],
    ]
    assert [list(row.values()) for row in rows(summary_table([model]))] == [["ARENA_HARD", "A", "strict", "0.25"]]
    assert apart_table(models(write_evaluation(tmp_path / "B"))) is None
