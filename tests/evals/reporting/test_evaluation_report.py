import html.parser
import json
import re

import pytest

from phi4r.errors import UserError
from phi4r.evals.reporting.evaluation_report import report_evaluations
from tests.evals.reporting.folders import VERDICTS, write_evaluation

HOSTILE = "</pre><script>alert('x')</script><img src=http://example.org/x.png onerror=alert(1)> | $\\frac{ \ud800 ]]>"


class Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], "", []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def hostile_page(tmp_path):
    """Everything that comes from outside would like to be markup."""
    groups = {item: {HOSTILE: f"{HOSTILE}{item}"} for item in VERDICTS}
    changes = {("a", 0): {"text": HOSTILE, "answer": HOSTILE}}
    changes = {**changes, **{(item, 1): {"answer": HOSTILE} for item in "abcd"}}
    results = {"judge": {HOSTILE: 0.5}, "summary": {HOSTILE: 1.0}}
    settings = {"title": HOSTILE, "seed": HOSTILE, "provenance": {"chat_template": HOSTILE}}
    for name in ("A", "B"):
        write_evaluation(
            tmp_path / name, "task", groups=groups, changes=changes, results=results, **settings, **{name: HOSTILE}
        )
    label = "<script>alert('x')</script>$_"
    labels = [f"{label}{name}={tmp_path / name}" for name in ("A", "B")]
    return report_evaluations(labels, tmp_path / "report").page


def test_nothing_from_outside_becomes_markup(hostile_page):
    page = Page(hostile_page)
    assert not page.open and "script" not in page.tags
    assert page.text.count("<script>alert('x')</script>") > 20
    assert page.tags.count("img") == len(list((hostile_page.parent / "figures").glob("*.svg"))) == 3


def test_the_page_loads_nothing_from_elsewhere(hostile_page):
    page = Page(hostile_page)
    for name, value in page.attributes:
        assert not name.startswith("on") and name not in ("srcset", "action", "style")
        assert name != "src" or value.startswith("data:image/svg+xml;base64,")
        assert name != "href" or re.fullmatch("#section-[0-9]+", value)
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes


def test_files_have_plain_names_wherever_theirs_come_from(hostile_page):
    written = [path.relative_to(hostile_page.parent) for path in hostile_page.parent.rglob("*") if path.is_file()]
    assert len(written) > 10 and all(re.fullmatch("[A-Za-z0-9_./-]+", str(path)) for path in written)


def test_the_page_figures_and_tables_of_two_models(tmp_path):
    a, b = write_evaluation(tmp_path / "A"), write_evaluation(tmp_path / "B", seed=7)
    written = report_evaluations([str(a), str(b)], tmp_path / "report")
    figures = {path.name for path in (tmp_path / "report" / "figures").iterdir()}
    names = {"overview", "aime_2025_year", "aime_2025_field", "aime_2025_tokens"}
    assert figures == {f"{name}.{suffix}" for name in names for suffix in ("png", "svg")}
    assert written.num_figures == 4
    tables = {path.stem for path in (tmp_path / "report" / "tables").iterdir()}
    assert tables == {
        *("table1", "scores", "aime_2025_year", "aime_2025_field"),
        *("comparisons", "protocol_differences", "protocols"),
    }
    assert written.notes == ("aime_2025: the models differ in their protocol (seed); see Protocols.",)
    page = Page(written.page)
    for text in ("Notes", "Paired comparisons", "37.5 (17.7)", "N 4, 2 runs, 0.0% cut", "item a, run 0, answer 1"):
        assert text in page.text
    assert (tmp_path / "report" / "tables" / "table1.md").read_text().startswith("| benchmark | A | B |")


def test_the_same_folders_give_the_same_bytes(tmp_path):
    folder = str(write_evaluation(tmp_path / "A"))
    first, second = (report_evaluations([folder], tmp_path / name).page.read_bytes() for name in ("one", "two"))
    assert first == second


def test_what_was_left_out_is_said_on_the_page(tmp_path):
    path = write_evaluation(tmp_path / "A") / "aime_2025" / "responses.jsonl"
    path.write_bytes(path.read_bytes()[:-5] + b"\n")
    page = Page(report_evaluations([str(tmp_path / "A")], tmp_path / "report").page)
    assert "1 damaged lines of" in page.text and "3 other responses are left out" in page.text


def test_checkpoints_are_put_in_order_and_compared_with_the_first(tmp_path):
    folders = [str(write_evaluation(tmp_path / f"step-{step}")) for step in (300, 100, 200)]
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    written = report_evaluations([str(tmp_path / "sft"), *folders], tmp_path / "report", checkpoints=True)
    page = Page(written.page)
    assert "Over checkpoints (Figure 4)" in page.text and "step-100, step-200, step-300, sft" in page.text
    tables = tmp_path / "report" / "tables"
    lines = (tables / "comparisons.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1:3] for line in lines] == [["step-200", "step-100"], ["step-300", "step-100"]]
    assert (tmp_path / "report" / "figures" / "checkpoints_accuracy.png").stat().st_size > 1000
    years = (tables / "aime_2025_year.md").read_text().splitlines()[0]
    assert years == "| year | items | step-100 | step-300 |", "the ends of the run"
    steps = (tables / "checkpoints.csv").read_text().splitlines()
    assert [line.split(",")[:4] for line in steps[1:]] == [
        [str(step), f"step-{step}", "AIME_2025", "0.375"] for step in (100, 200, 300)
    ]


def test_a_training_run_adds_its_curves(tmp_path):
    rows = [{"step": step, "loss": 1 / step, "dev_accuracy": 0.1 * step} for step in range(1, 6)]
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    written = report_evaluations([str(tmp_path / "sft")], tmp_path / "report")
    assert "Supervised fine-tuning (Figure 4): sft" in Page(written.page).text
    assert written.num_figures == 2
    (tmp_path / "sft" / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n')
    assert "has 'loss'" in report_evaluations([str(tmp_path / "sft")], tmp_path / "report").notes[0]


def test_what_only_a_model_judged_is_in_no_other_table(tmp_path):
    unjudged = {(item, run): {"status": "unjudged", "answer": None} for item in VERDICTS for run in (0, 1)}
    verdicts = {item: [0, 0] for item in VERDICTS}
    results = {"judge": {"win_rate": 0.5}}
    folder = write_evaluation(tmp_path / "A", "arena_hard", verdicts=verdicts, changes=unjudged, results=results)
    report_evaluations([str(folder)], tmp_path / "report")
    assert [path.name for path in sorted((tmp_path / "report" / "tables").iterdir())] == ["judged.csv", "judged.md"]


def test_models_without_a_common_item_are_not_compared_and_it_is_said(tmp_path):
    a, b = write_evaluation(tmp_path / "A"), write_evaluation(tmp_path / "B", verdicts={"x": [0, 1]})
    written = report_evaluations([str(a), str(b)], tmp_path / "report")
    assert "aime_2025: A and B have no items in common and are not compared." in written.notes
    assert not (tmp_path / "report" / "tables" / "comparisons.csv").exists()


def test_figures_and_tables_of_an_earlier_report_in_the_folder_are_said(tmp_path):
    old, new = write_evaluation(tmp_path / "A", "maze", groups=None), write_evaluation(tmp_path / "B", groups=None)
    assert not report_evaluations([str(old)], tmp_path / "report").notes
    [note] = report_evaluations([str(new)], tmp_path / "report").notes
    assert note == f"2 files in {tmp_path}/report/figures are not of this report, maze_tokens.png the first."


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        report_evaluations([str(write_evaluation(tmp_path / "A"))], tmp_path / "file" / "report")
