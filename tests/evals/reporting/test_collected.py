import json

import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.evals.reporting.collected import complete_part, read_models
from tests.evals.reporting.folders import VERDICTS, response, write_evaluation


def cells(*answered: str) -> dict[tuple[str, int], None]:
    """Cells of "a0": item a, run 0."""
    return {(name[0], int(name[1:])): None for name in answered}


def read(folder):
    [model] = read_models([str(folder)])
    return model


def test_an_evaluation_is_read_with_its_items_in_one_order(tmp_path):
    model = read(write_evaluation(tmp_path / "phi"))
    evaluation = model.evaluations["aime_2025"]
    assert (model.label, model.notes) == ("phi", ())
    assert evaluation.table.ids == ("a", "b", "c", "d")
    np.testing.assert_array_equal(evaluation.table.correct, list(VERDICTS.values()))
    assert evaluation.groups["year"] == ((2023,), (2023,), (2024,), (2024,))
    assert evaluation.groups["field"] == (("algebra",),) * 2 + (("sets", "algebra"),) * 2
    assert (evaluation.benchmark, evaluation.title) == ("aime_2025", "AIME_2025")


def test_groups_belong_to_their_items_whatever_the_order_of_the_file(tmp_path):
    path = write_evaluation(tmp_path / "phi") / "aime_2025" / "items.jsonl"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    evaluation = read(tmp_path / "phi").evaluations["aime_2025"]
    assert evaluation.groups["year"] == ((2023,), (2023,), (2024,), (2024,))


@pytest.mark.parametrize(
    "answered, num_items, items, runs",
    [
        (("a0", "b0", "a1", "b1"), 2, ["a", "b"], [0, 1]),  # all there
        (("a0", "b0", "a1"), 2, ["a", "b"], [0]),  # a run has begun
        (("a0", "a1", "a2", "b0", "b2"), 2, ["a", "b"], [0, 2]),  # a run in the middle is not complete
        (("a0", "a1", "b0", "b1"), 3, ["a", "b"], [0, 1]),  # item c is not answered: no complete run
        (("a0", "b0", "c0", "a1"), 4, ["a", "b", "c"], [0]),  # 3 responses beat 2
        (("a0", "b0", "a1", "b1", "c0"), 4, ["a", "b"], [0, 1]),  # 4 responses beat 3
        ((), 2, [], []),
    ],
)
def test_complete_runs_count_or_else_as_many_responses_as_possible(answered, num_items, items, runs):
    assert complete_part(cells(*answered), num_items) == (items, runs)


def test_a_file_cut_in_the_middle_of_a_line_loses_that_line_and_its_run(tmp_path):
    path = write_evaluation(tmp_path / "phi") / "aime_2025" / "responses.jsonl"
    path.write_bytes(path.read_bytes()[:-20])  # run 1 of item d
    model = read(tmp_path / "phi")
    np.testing.assert_array_equal(model.evaluations["aime_2025"].table.correct, [[1], [1], [0], [0]])
    assert model.notes == (
        "phi, aime_2025: not finished; 4 of 4 items in 1 run count, 3 other responses are left out.",
    )


def test_an_evaluation_in_its_first_run_counts_the_items_that_it_has(tmp_path):
    model = read(write_evaluation(tmp_path / "phi", verdicts={"a": [1], "b": [0]}, num_items=30))
    assert model.evaluations["aime_2025"].table.ids == ("a", "b")
    assert "2 of 30 items in 1 run count, 0 other responses" in model.notes[0]


@pytest.mark.parametrize(
    "line, said",
    [
        ("{", "1 damaged lines of"),
        ("[1, 2]", "1 damaged lines of"),
        ("[" * 100_000, "1 damaged lines of"),
        (json.dumps(response("e", 0, True, num_tokens="12")), "are no responses are left out, the first is line 9"),
        (json.dumps(response("e", -1, True)), "are no responses are left out, the first is line 9"),
        (json.dumps({"id": "e"}), "are no responses are left out, the first is line 9"),
        (json.dumps(response("a", 0, False)), "1 responses are there twice; the first of each counts"),
    ],
)
def test_a_line_that_is_no_response_is_left_out_with_a_note(tmp_path, line, said):
    path = write_evaluation(tmp_path / "phi") / "aime_2025" / "responses.jsonl"
    path.write_text(path.read_text() + line + "\n")
    model = read(tmp_path / "phi")
    np.testing.assert_array_equal(model.evaluations["aime_2025"].table.correct, list(VERDICTS.values()))
    [note] = model.notes
    assert said in note


def test_damaged_files_beside_the_responses_cost_no_more_than_themselves(tmp_path):
    place = write_evaluation(tmp_path / "phi", results={"judge": {"accuracy": 1.0}}) / "aime_2025"
    for name in ("protocol.json", "results.json"):
        (place / name).write_text('{"task": "aime')
    (place / "items.jsonl").write_text('{"id": "a", "groups": {"year": 2023}}\n{"id"\n"x"\n{"id": 7, "groups": {}}\n')
    model = read(tmp_path / "phi")
    evaluation = model.evaluations["aime_2025"]  # after its folder
    assert evaluation.groups == {"year": ((2023,), (), (), ())} and not evaluation.apart
    ends = ("protocol.json is damaged;", "items.jsonl are left out, the first is line 2.", "results.json is damaged;")
    assert len(model.notes) == 3 and all(end in note for end, note in zip(ends, model.notes, strict=True))


def test_figures_of_judges_are_kept_apart_and_what_is_no_number_is_not_one(tmp_path):
    results = {"judge": {"accuracy": 0.5, "model": "x"}, "extraction": {}, "summary": {"elo": 1500}, "accuracy": 0.1}
    evaluation = read(write_evaluation(tmp_path / "phi", results=results)).evaluations["aime_2025"]
    assert evaluation.apart == {"judge": {"accuracy": 0.5}} and evaluation.summary == {"elo": 1500}


def test_figures_of_a_benchmarks_own_are_of_the_responses_that_count(tmp_path):
    parts = {(item, run): {"parts": {"passed": 0.5 + 0.5 * (item == "a")}} for item in VERDICTS for run in (0, 1)}
    old = {"summary": {"passed": 0.1}}
    evaluation = read(write_evaluation(tmp_path / "phi", changes=parts, results=old)).evaluations["aime_2025"]
    assert evaluation.summary == {"passed": 0.625}, "two of eight have 1, the others one half"


def test_an_elo_rating_comes_from_the_stored_responses_and_standings(tmp_path):
    standings = [[1500.0, 400.0, 0.0], [1500.0, 100.0, 0.0]]
    folder = write_evaluation(tmp_path / "phi", "codeforces", verdicts={"1-A": [0, 1], "1-B": [0, 0]}, groups={})
    metas = [{"contest": "1", "points": 300.0, "standings": table} for table in (standings, [])]
    items = [{"id": name, "groups": {}, "meta": meta} for name, meta in zip(("1-A", "1-B"), metas, strict=True)]
    (folder / "codeforces" / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    summary = read(folder).evaluations["codeforces"].summary
    # One wrong attempt leaves 300 - 50 points, rank 2 of two who are rated 1500:
    # 1 + 2 / (1 + 10^((R - 1500) / 400)) = 2 at R = 1500.
    assert summary["elo"] == pytest.approx(1500) and (summary["solved"], summary["percentile"]) == (0.5, 50.0)


def test_without_standings_the_rating_is_that_of_results_json(tmp_path):
    folder = write_evaluation(tmp_path / "phi", "codeforces", results={"summary": {"elo": 1234.0}})
    assert read(folder).evaluations["codeforces"].summary == {"elo": 1234.0}


def test_malformed_rows_and_refused_requests_are_said(tmp_path):
    refused = {("d", 1): {"finish_reason": "refused", "answer": None, "status": "no_answer"}}
    results = {"malformed": ["rows.csv:7: 'Answer' is missing.", "rows.csv:9: 'Answer' is missing."]}
    model = read(write_evaluation(tmp_path / "phi", changes=refused, results=results, malformed_rows=2))
    assert model.notes == (
        "phi, aime_2025: 2 malformed rows of the problems were not asked, the first: rows.csv:7: 'Answer' is missing.",
        "phi, aime_2025: 1 of 8 requests were refused by the server and count as wrong.",
    )


def test_two_evaluations_of_a_task_in_one_folder_are_told_apart_by_their_places(tmp_path):
    write_evaluation(tmp_path / "phi" / "greedy")
    write_evaluation(tmp_path / "phi" / "sampled")
    titles = {name: evaluation.title for name, evaluation in read(tmp_path / "phi").evaluations.items()}
    assert titles == {
        "aime_2025 (greedy/aime_2025)": "AIME_2025 (greedy/aime_2025)",
        "aime_2025 (sampled/aime_2025)": "AIME_2025 (sampled/aime_2025)",
    }


def test_labels_are_given_or_as_much_of_the_path_as_tells_folders_apart(tmp_path):
    folders = [str(write_evaluation(tmp_path / name / "eval")) for name in ("sft", "grpo")]
    assert [model.label for model in read_models(folders)] == ["sft/eval", "grpo/eval"]
    assert [model.label for model in read_models([f"A={folders[0]}", folders[1]])] == ["A", "eval"]
    assert read_models([str(write_evaluation(tmp_path / "lr=1"))])[0].label == "lr=1"
    with pytest.raises(UserError, match="two folders are called 'A'"):
        read_models([f"A={folder}" for folder in folders])
    with pytest.raises(UserError, match="sft/eval is given twice; give every folder once"):
        read_models([folders[0], folders[0]])


def test_texts_are_kept_for_the_first_items_alone(tmp_path):
    verdicts = {f"i{number:02}": [1, 0] for number in range(20)}
    evaluation = read(write_evaluation(tmp_path / "phi", verdicts=verdicts, groups={})).evaluations["aime_2025"]
    assert list(evaluation.examples) == [f"i{number:02}" for number in range(8)]
    assert evaluation.examples["i03"].text == "<think>about i03</think>\\boxed{1}"


def test_a_task_that_only_a_model_can_judge_is_not_ruled(tmp_path):
    unjudged = {(item, run): {"status": "unjudged"} for item in VERDICTS for run in (0, 1)}
    model = read(write_evaluation(tmp_path / "phi", verdicts={i: [0, 0] for i in VERDICTS}, changes=unjudged))
    assert not model.evaluations["aime_2025"].ruled
    assert model.notes == ("phi, aime_2025: 8 of 8 responses can only be judged by a model.",)


def test_a_training_run_has_metrics_in_place_of_evaluations(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 2.0, "note": "x", "dev_accuracy": null}\n{"loss": 1}\n{"st'
    )
    model = read(tmp_path)
    assert model.metrics == [{"step": 1, "loss": 2.0}] and not model.evaluations


def test_folders_with_nothing_to_report_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        read_models([str(tmp_path / "missing")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"to report: there is neither protocol.json nor metrics.jsonl"):
        read_models([str(tmp_path / "empty")])
    (write_evaluation(tmp_path / "phi") / "aime_2025" / "responses.jsonl").write_text("")
    with pytest.raises(UserError, match=r"has no evaluation to report: phi, aime_2025: there are no responses yet"):
        read_models([str(tmp_path / "phi")])
    (tmp_path / "phi" / "aime_2025" / "responses.jsonl").unlink()
    with pytest.raises(UserError, match="cannot read"):
        read_models([str(tmp_path / "phi")])
