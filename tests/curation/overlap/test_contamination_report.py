import json

import pytest

from phi4r.curation.item import Item
from phi4r.curation.overlap.contamination_report import marked, write_contamination_report
from phi4r.curation.overlap.decontamination import Decontamination, DecontaminationSettings
from phi4r.curation.overlap.index_building import build_index
from phi4r.curation.overlap.ngrams import words_of
from phi4r.curation.overlap.protected_texts import ProtectedText
from phi4r.errors import UserError

FARM = "A farmer has twelve brown hens and five white ducks; how many eggs do all hens lay in June?"
ROOT = "Prove that the square root of two is irrational"


@pytest.mark.parametrize(
    ("text", "start", "num_words", "parts"),
    [
        ("One two, (three) four.", 1, 2, ("One ", "two, (three)", " four.")),
        ("One two", 0, 2, ("", "One two", "")),
        ("a-b c \u2014 d", 1, 2, ("", "a-b c", " \u2014 d")),  # a piece between blanks is marked whole
        ("x \u00bd y\nz", 2, 2, ("x ", "\u00bd y", "\nz")),  # two words in one character
        ("- a", 0, 1, ("- ", "a", "")),
    ],
)
def test_the_span_is_marked_in_the_text_as_written(text, start, num_words, parts):
    assert marked(text, start, num_words) == parts
    assert set(words_of(text)[start : start + num_words]) <= set(words_of(parts[1]))


@pytest.fixture
def looked_at(tmp_path):
    for name, text in (("farm", FARM), ("roots", ROOT)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": f"{name}-1", "question": text}) + "\n")
    specs = tuple(f"file:{tmp_path / name}.jsonl?fields=question" for name in ("farm", "roots"))
    items = [
        Item("i1", f"<b>Here</b> | {'before ' * 40}{FARM.upper()}", source="web"),
        Item("i2", f"{FARM} So?"),
        Item("i3", f"We {ROOT[6:]}"),  # 9 words, 3 7-grams, 2 of them shared
        Item("i4", f"{ROOT[:33]} and of eleven and five and six and many more"),
        Item("i5", "Something else"),
    ]
    return [outcome.item for outcome in Decontamination(DecontaminationSettings(specs))(items)]


def test_the_report_counts_and_shows_what_was_found(looked_at, tmp_path):
    folder = tmp_path / "report"
    write_contamination_report(folder, [*looked_at, Item("i6", "new")], title="Found", num_examples=1)
    rows = [json.loads(line) for line in (folder / "contamination.jsonl").read_text().splitlines()]
    assert [(row["id"], row["verdict"], row["benchmark"], row["item"]) for row in rows] == [
        ("i1", "contaminated", "farm", "farm-1"),
        ("i2", "contaminated", "farm", "farm-1"),
        ("i3", "contaminated", "roots", "roots-1"),
        ("i4", "partial", "roots", "roots-1"),
    ]
    assert rows[0]["shared"] == FARM.upper() and rows[0]["after"] == ""
    assert rows[0]["before"].startswith("…") and len(rows[0]["before"]) == 161
    page = (folder / "contamination.md").read_text()
    assert page.startswith("# Found\n\n1 clean, 3 contaminated, 1 not looked at, 1 partial.\n")
    assert "| farm | 2 | 0 | 0 | 1 |\n| roots | 0 | 1 | 1 | 1 |\n" in page
    assert f"**{FARM.upper()}**" in page
    assert "i2" not in page  # one example of each benchmark
    html = (folder / "contamination.html").read_text()
    assert f"<mark>{FARM.upper()}</mark>" in html and "<script" not in html


def test_the_report_says_what_is_protected_and_what_is_not(looked_at, tmp_path):
    texts = [("roots", ROOT), ("other", "one two"), ("other", FARM), ("other", "")]
    index = build_index(ProtectedText(name, str(i), "p", text, whole=False) for i, (name, text) in enumerate(texts))
    write_contamination_report(tmp_path, looked_at[2:], index=index)
    page = (tmp_path / "contamination.md").read_text()
    assert "| other | 0 | 0 | 0 | 0 | 3 | 2 |\n| roots | 0 | 1 | 1 | 1 | 1 | 0 |\n" in page


def test_text_of_items_is_no_markup_of_the_report(tmp_path):
    note = {
        "verdict": "partial",
        "rule": "7-gram ratio",
        "ratio": 0.2,
        "benchmark": "<i>b",
        "item": "1",
        "part": "prompt",
    }
    note |= {"field": "prompt", "start": 0, "span": "script alert"}
    item = Item("i", "<script>alert(1)</script> \ud800 [a](b) `c`", meta={"decontamination": note})
    write_contamination_report(tmp_path, [item])
    html = (tmp_path / "contamination.html").read_text()
    assert "<script" not in html and "<i>b" not in html and "&lt;script&gt;alert" in html
    assert "\\[a\\](b) \\`c\\`" in (tmp_path / "contamination.md").read_text()


def test_nothing_found_is_a_report_too(tmp_path):
    write_contamination_report(tmp_path, [])
    assert (tmp_path / "contamination.jsonl").read_text() == ""
    assert (tmp_path / "contamination.md").read_text() == "# Contamination\n\nno items.\n\n"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_contamination_report(tmp_path / "file", [])
