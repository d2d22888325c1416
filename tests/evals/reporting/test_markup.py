import base64
import html.parser
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.evals.reporting.figures import curve_figure
from phi4r.evals.reporting.markup import (
    Sample,
    Section,
    figure_grid,
    model_entry,
    paragraph,
    results_figure,
    results_table,
    samples_table,
    table,
    write_report,
)
from phi4r.evals.scores import summarise_scores

HOSTILE = "<script>alert('x')</script> & \"<img src=http://example.org/x.png>\" <b> \ud800"


class _Page(html.parser.HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], "", []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def _sample(response: str, *, correct: bool = True) -> Sample:
    return Sample(model="SFT", prompt=HOSTILE, response=response, reference=HOSTILE, correct=correct, num_tokens=12)


def _scores(correct, num_tokens=10):
    correct = np.array(correct, bool)
    lengths = np.full(correct.shape, num_tokens)
    return summarise_scores(correct, lengths, lengths > 50, [["a"] * correct.shape[1]] * len(correct))


@pytest.fixture
def page(tmp_path) -> _Page:
    figure = curve_figure({"loss": ([1, 2], [2.0, 1.0])}, title=HOSTILE.replace("\ud800", ""))
    sections = [
        Section(HOSTILE, paragraph(HOSTILE) + table(["a", HOSTILE], [[HOSTILE, 1.5]], caption=HOSTILE)),
        Section("Figures", figure_grid([(figure, HOSTILE)])),
        Section("Samples", samples_table([_sample(f"<think>{HOSTILE}</think>{HOSTILE}"), _sample(HOSTILE)])),
    ]
    write_report(tmp_path / "report.html", HOSTILE, sections, subtitle=HOSTILE)
    page = _Page()
    page.feed((tmp_path / "report.html").read_text(encoding="utf-8"))
    return page


def test_nothing_from_outside_becomes_markup(page):
    assert not page.open, "every tag is closed"
    assert "script" not in page.tags and "b" in page.tags
    assert page.tags.count("img") == 1, "the figure, not the image in the model's text"
    # 4 headings, 4 texts of the first section, 1 caption, 4 texts of the first sample and 3 of the second.
    assert page.text.count("<script>alert('x')</script>") == 16


def test_the_page_loads_nothing_from_elsewhere(page):
    for name, value in page.attributes:
        assert name not in ("href", "srcset", "onclick", "onerror")
        if name == "src":
            assert value.startswith("data:image/svg+xml;base64,")
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes


def test_figures_are_svg_with_a_caption_and_the_same_every_time():
    first, second = (
        figure_grid([(curve_figure({"loss": ([1, 2], [2.0, 1.0])}, title="Loss"), "falls")]) for _ in range(2)
    )
    assert first == second
    assert "<figcaption>falls</figcaption>" in first and 'alt="falls"' in first
    svg = base64.b64decode(re.search(r"base64,([^\"]*)", first)[1])
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"


def test_a_thought_is_set_apart_from_the_solution_at_its_last_end_tag():
    body = samples_table([_sample("<think>a</think>b</think>c")])
    assert '<span class="thought">&lt;think&gt;a&lt;/think&gt;b&lt;/think&gt;</span>c</pre>' in body
    assert '<span class="thought">never ends</span></pre>' in samples_table([_sample("never ends")])


def test_verdicts_are_words_and_not_only_colours():
    assert ">right</span>" in samples_table([_sample("x")])
    assert ">wrong</span>" in samples_table([_sample("x", correct=False)])


def test_the_numbers_of_a_model_are_those_of_its_scores():
    greedy = _scores([[1], [0], [0], [0]])
    sampled = _scores([[1, 1], [1, 0], [0, 0], [0, 0]], num_tokens=60)
    entry = model_entry(greedy, sampled)
    assert (entry["greedy"], entry["t08"], entry["n"], entry["num_runs"]) == (0.25, 0.375, 4, 2)
    assert entry["sd"] == pytest.approx(np.sqrt(2) / 8)
    assert entry["interval"] == [sampled.interval.low, sampled.interval.high]
    assert entry["greedy_interval"] == [greedy.interval.low, greedy.interval.high]
    assert (entry["truncated"], entry["mean_tokens"]) == (1.0, 60.0)


def test_the_table_of_models_is_in_percent_and_leaves_out_an_sd_of_one_run():
    one, two = _scores([[1], [0]]), _scores([[1, 1], [1, 0]])
    body = results_table({"base": model_entry(one, one), "GRPO": model_entry(one, two)})
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", body)[1:]]
    assert rows[0][:4] == ["base", "50.0", "50.0", ""]
    assert rows[1][:4] == ["GRPO", "50.0", "75.0", "35.4"]
    assert rows[1][5:] == ["2", "2", "0.0%", "10"]


def test_the_figure_of_models_has_a_bar_for_either_way_of_decoding():
    entry = model_entry(_scores([[1], [0]]), _scores([[1, 1], [1, 0]]))
    axes = results_figure({"base": entry, "GRPO": entry}, title="t").axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == [0.5, 0.5, 0.75, 0.75]


def test_an_unwritable_report_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        write_report(tmp_path / "report.html", "t", [])
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
