from phi4r.evals.reporting.collected import read_models
from phi4r.evals.reporting.protocols import difference_notes, differences_table, flat, protocol_table
from tests.evals.reporting.folders import write_evaluation


def models(*folders):
    return read_models([str(folder) for folder in folders])


def test_settings_are_named_by_their_paths():
    assert flat({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "a.c": {}, "d": [1]}


def test_models_that_were_asked_alike_differ_in_nothing_but_what_they_are(tmp_path):
    same = models(write_evaluation(tmp_path / "A"), write_evaluation(tmp_path / "B"))  # of other weights
    assert differences_table(same) is None and not list(difference_notes(same))


def test_differences_of_decoding_seed_problems_and_template_are_pointed_out(tmp_path):
    a = write_evaluation(tmp_path / "A")
    decoding = {"temperature": 0.6, "top_p": 0.95, "top_k": 50, "max_tokens": 1000}
    other = {"provenance": {"chat_template": "t1", "weights": "w"}, "seed": 1, "problems": "p1"}
    b = write_evaluation(tmp_path / "B", decoding=decoding, **other)
    table = differences_table(models(a, b))
    assert [list(map(str, row)) for row in table.rows] == [
        ["AIME_2025", "temperature", "0.8", "0.6"],
        ["AIME_2025", "seed", "0", "1"],
        ["AIME_2025", "hash of problems", "p0", "p1"],
        ["AIME_2025", "hash of template", "t0", "t1"],
    ]
    assert list(difference_notes(models(a, b))) == [
        "aime_2025: the models differ in their protocol (temperature, seed, hash of problems, hash of template); see "
        "Protocols."
    ]


def test_a_setting_that_one_model_lacks_is_a_difference(tmp_path):
    [row] = differences_table(
        models(write_evaluation(tmp_path / "A"), write_evaluation(tmp_path / "B", extra=True))
    ).rows
    assert row == ["AIME_2025", "extra", "", "true"]


def test_every_evaluation_has_a_line_of_settings(tmp_path):
    table = protocol_table(models(write_evaluation(tmp_path / "A", malformed_rows=3)))
    line = dict(zip(table.header, table.rows[0], strict=True))
    shown = [line[name] for name in ("temperature", "max_tokens", "hash of template", "malformed rows")]
    assert shown == ["0.8", "1000", "t0", "3"]
