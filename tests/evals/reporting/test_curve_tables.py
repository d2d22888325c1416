import csv
import io

import numpy as np

from phi4r.evals.curves import Curve
from phi4r.evals.reporting.collected import read_models
from phi4r.evals.reporting.curve_tables import checkpoints_table, curve_table, runs_table
from phi4r.evals.reporting.result_tables import by_model
from tests.evals.reporting.folders import write_evaluation


def cells(table) -> list[list[str]]:
    return [list(map(str, row)) for row in table.rows]


def records(table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.csv())))


def test_every_run_has_a_line_also_where_models_have_not_as_many(tmp_path):
    b = write_evaluation(tmp_path / "B", verdicts={"a": [1, 0, 1], "b": [0, 0, 1]})
    found = read_models([str(write_evaluation(tmp_path / "A")), str(b)])
    table = runs_table("aime_2025", by_model(found, "aime_2025"))
    # A: 2 and 1 of 4; B: 1, 0 and 2 of 2.
    assert cells(table) == [["1", "50.0", "50.0"], ["2", "25.0", "0.0"], ["3", "", "100.0"]]
    assert [tuple(record.values()) for record in records(table)][1:3] == [("A", "2", "0.25"), ("B", "1", "0.5")]


def test_curves_have_a_line_for_every_k():
    mean = np.array([0.5, 0.75])
    short = np.array([0.5])
    curves = {"A": Curve(mean, mean - 0.1, mean + 0.1), "B": Curve(short, short, short)}
    table = curve_table("t", "majority", curves)
    assert cells(table) == [["1", "50.0 [40.0 to 60.0]", "50.0 [50.0 to 50.0]"], ["2", "75.0 [65.0 to 85.0]", ""]]
    assert list(records(table)[1].values()) == ["A", "2", "0.75", "0.65", "0.85"]


def test_checkpoints_have_a_line_each_and_gaps_where_a_task_was_not_asked(tmp_path):
    write_evaluation(tmp_path / "step-200", "maze", verdicts={"a": [1]})
    found = read_models(
        [str(write_evaluation(tmp_path / f"step-{step}", verdicts={"a": [1], "b": [0]})) for step in (100, 200)]
    )
    table = checkpoints_table([100, 200], found)
    assert list(table.header) == ["step", "AIME_2025", "MAZE"]
    first, second = cells(table)
    # Wilson's interval of 1 in 2: 0.5 -+ z sqrt(1/8 + z^2/16) / (1 + z^2/2) = 0.5 -+ 0.405.
    assert first == ["100", "50.0 [9.5 to 90.5; 150 tokens, 0.0% cut]", ""]
    assert second[2].startswith("100.0 [")
    assert [(record["step"], record["benchmark"], record["accuracy"]) for record in records(table)] == [
        ("100", "AIME_2025", "0.5"),
        ("200", "AIME_2025", "0.5"),
        ("200", "MAZE", "1"),
    ]
