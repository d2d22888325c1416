import csv
import io

from phi4r.evals.reporting.markup import Cell
from phi4r.evals.reporting.tables import Table, percent, spread

TABLE = Table(
    "t", ["a|b", Cell("<b>", "note")], [["x\\y", 1], [Cell("50.0 (1.2)", "N 30"), 'say "hi", you']], "What it is."
)


def test_markdown_keeps_cells_in_their_columns_and_html_as_text():
    assert TABLE.markdown() == (
        "| a\\|b | &lt;b> [note] |\n"
        "| --- | --- |\n"
        "| x\\\\y | 1 |\n"
        '| 50.0 (1.2) [N 30] | say "hi", you |\n'
        "\nWhat it is.\n"
    )


def test_csv_reads_back():
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    assert rows == [["a|b", "<b> [note]"], ["x\\y", "1"], ["50.0 (1.2) [N 30]", 'say "hi", you']]


def test_records_take_the_place_of_cells_in_csv_alone():
    table = Table("t", ["model"], [["A"]], records=[{"model": "A", "share": 1 / 3}, {"model": "B", "p": 1e-12, "k": 5}])
    assert table.csv() == "model,share,p,k\nA,0.333333,,\nB,,1e-12,5\n"
    assert table.markdown() == "| model |\n| --- |\n| A |\n"


def test_html_has_notes_small_and_no_markup_of_a_cell():
    body = TABLE.html()
    assert "<th>&lt;b&gt;<small>note</small></th>" in body and "<td>50.0 (1.2)<small>N 30</small></td>" in body
    assert '<p class="caption">What it is.</p>' in body


def test_shares_are_percent_with_one_digit_and_missing_ones_are_empty():
    assert (percent(0.375), percent(1.0), percent(None)) == ("37.5", "100.0", "")
    assert (spread("37.5", "17.7"), spread("37.5", "")) == ("37.5 (17.7)", "37.5")
