import json

import pytest

from phi4r.curation.teaching.agreement_plot import binned, read_agreements, write_agreement_plot
from phi4r.errors import UserError
from tests.curation.speaking import make_item


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_agreements_are_read_from_items_and_from_outcomes(tmp_path):
    judged = [make_item().noted("teachability", agreement=a).to_dict() for a in (0.25, 0.5)]
    unjudged = make_item().noted("teachability", plurality=None).to_dict()
    kept = write(tmp_path / "kept.jsonl", judged[:1])
    dropped = write(
        tmp_path / "dropped.jsonl", [{"item": judged[1], "reason": "too easy"}, {"item": unjudged, "reason": "x"}]
    )
    assert read_agreements([kept, dropped]) == [0.25, 0.5]


def test_files_without_an_agreement_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no item in .*has an agreement"):
        read_agreements([write(tmp_path / "kept.jsonl", [make_item().to_dict()])])
    with pytest.raises(UserError, match="cannot read"):
        read_agreements([tmp_path / "missing.jsonl"])


def test_each_of_a_few_values_has_a_bar():
    assert binned([0.5, 0.125, 0.5, 1.0]) == {0.125: 1, 0.5: 2, 1.0: 1}


def test_many_values_count_in_the_nearest_bin():
    counts = binned([place / 100 for place in range(101)] + [1 / 3])
    # 0.00 to 0.02 are nearest to 0, 0.03 to 0.07 to 0.05, 0.33 to 0.37 and 1/3 to 0.35, 0.98 to 1.00 to 1.
    assert counts[0.0] == 3 and counts[0.05] == 5 and counts[0.35] == 6 and counts[1.0] == 3
    assert len(counts) == 21 and sum(counts.values()) == 102


def test_the_picture_says_how_many_are_in_the_band(tmp_path):
    pytest.importorskip("matplotlib")
    write_agreement_plot([0.0, 0.25, 0.5, 0.75, 1.0], tmp_path / "plot.svg", low=0.25, high=0.75)
    drawn = (tmp_path / "plot.svg").read_text()
    assert "<svg" in drawn and "3 of 5 from 25% to 75%" in drawn
    write_agreement_plot([0.5], tmp_path / "plot.png", low=0.25, high=0.75)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match=r"must end with \.png or \.svg"):
        write_agreement_plot([0.5], tmp_path / "plot.pdf", low=0.25, high=0.75)
