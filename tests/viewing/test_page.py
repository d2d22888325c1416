import base64
import gzip
import hashlib
import html.parser
import json
import shutil
import subprocess

import pytest

from phi4r.errors import UserError
from phi4r.viewing.page import PageLimits, write_page

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><!-- &amp; 😀"
METRICS = [{"step": 1, "reward": 0.1, "accuracy": 0.5}, {"step": 2, "reward": 0.2, "accuracy": 0.6}]
REWARD = {"max_length": 32, "positive_control_length": 26, "negative_control_length": 4}


@pytest.fixture
def hostile_run(make_record, write_run, tmp_path):
    """Two steps that ask one problem twice; prompt, answer and a text would like to run."""
    text = f"<think> {HOSTILE} </think> 7"
    steps = {
        step: [
            *[make_record("p0", i, f"<think> plain {step} {i} </think> 7", logprob_gaps=[-1e-6] * 6) for i in range(4)],
            *[make_record(HOSTILE, i, text, prompt=HOSTILE, answer=HOSTILE, status=HOSTILE) for i in range(4)],
        ]
        for step in (1, 2)
    }
    return write_run(tmp_path / "run", steps, metrics=METRICS, config={"reward": REWARD})


class Page(html.parser.HTMLParser):
    """The scripts, styles and references of a page, as a browser reads its markup."""

    def __init__(self, text):
        super().__init__()
        self.data, self.scripts, self.styles, self.references, self.policy = {}, [], [], [], ""
        self._within = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self._within = (tag, values)
        self.references += [values[name] for name in ("src", "href", "action", "data", "style") if name in values]
        self.references += [name for name in values if name.startswith("on")]
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]

    def handle_endtag(self, tag):
        self._within = None

    def handle_data(self, data):
        tag, values = self._within or (None, {})
        if tag == "script" and values.get("type") == "application/gzip":
            self.data[values["id"]] = json.loads(gzip.decompress(base64.b64decode(data)))
        elif tag == "script":
            self.scripts.append(data)
        elif tag == "style":
            self.styles.append(data)


def read_page(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_everything_is_in_one_file_and_only_its_own_script_may_run(hostile_run, tmp_path):
    written = write_page(hostile_run, tmp_path / "page.html")
    page = read_page(tmp_path / "page.html")
    assert written == {"steps": 2, "problems": 4}
    assert page.references == [] and len(page.scripts) == len(page.styles) == 1
    hashes = {
        name: "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
        for name, [text] in (("script", page.scripts), ("style", page.styles))
    }
    assert page.policy == (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; base-uri 'none'"
    )
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "import("):
        assert word not in page.scripts[0]


def test_texts_are_in_the_page_whole_and_never_as_markup(hostile_run, tmp_path):
    write_page(hostile_run, tmp_path / "page.html")
    assert "owned" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    plain, hostile = read_page(tmp_path / "page.html").data["step-2"]
    assert [answer["text"] for answer in plain["answers"]] == [f"<think> plain 2 {i} </think> 7" for i in range(4)]
    assert hostile["prompt"] == HOSTILE and hostile["answers"][0]["text"] == f"<think> {HOSTILE} </think> 7"


def test_the_overview_says_what_there_is(hostile_run, tmp_path):
    write_page(hostile_run, tmp_path / "page.html")
    overview = read_page(tmp_path / "page.html").data["overview"]
    assert overview["curves"] == {"step": [1, 2], "reward": [0.1, 0.2], "accuracy": [0.5, 0.6]} and overview["measured"]
    assert overview["recorded"] == 2 and [step["kept"] for step in overview["steps"]] == [2, 2]
    assert overview["reward"]["marks"] == [4, 26, 32]


def test_a_run_without_metrics_and_config_has_curves_of_its_rollouts(make_record, write_run, tmp_path):
    run = write_run(tmp_path / "run", {3: [make_record("p", 0)], 5: [make_record("p", 1)]})
    write_page(run / "rollouts", tmp_path / "page.html")
    overview = read_page(tmp_path / "page.html").data["overview"]
    assert not overview["measured"] and overview["reward"] is None
    assert overview["curves"]["step"] == [3, 5] and overview["curves"]["accuracy"] == [1.0, 0.0]
    assert overview["curves"]["length_wrong"] == [None, 4.0]


def test_limits_leave_out_steps_and_problems(make_record, write_run, tmp_path):
    steps = {step: [make_record(f"p{i}", 0) for i in range(9)] for step in range(1, 12)}
    run = write_run(tmp_path / "run", steps)
    write_page(run, tmp_path / "page.html", PageLimits(max_steps=3, megabytes=0.004))
    overview = read_page(tmp_path / "page.html").data["overview"]
    assert [step["step"] for step in overview["steps"]] == [1, 6, 11] and overview["recorded"] == 11
    assert all(1 <= step["kept"] < 9 == step["problems"] for step in overview["steps"])
    write_page(run, tmp_path / "page.html", PageLimits(steps="4,9-10"))
    assert [step["step"] for step in read_page(tmp_path / "page.html").data["overview"]["steps"]] == [4, 9, 10]


@pytest.mark.parametrize("limits", [{"max_steps": 0}, {"megabytes": 0.0}, {"megabytes": float("nan")}])
def test_limits_that_hold_nothing_are_refused(limits):
    with pytest.raises(UserError, match="must be above 0"):
        PageLimits(**limits)


# In a browser


def in_chromium(path, *, fragment="") -> str:
    """The document as it stands when the scripts are done."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium here; install one to see the page work")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={path.parent / 'profile'}"]
    shown = subprocess.run(
        [browser, *flags, "--virtual-time-budget=10000", "--dump-dom", f"file://{path}{fragment}"],
        capture_output=True,
        timeout=120,
        check=True,
    )
    return shown.stdout.decode()


class Shown(html.parser.HTMLParser):
    """The title of a document, the texts of its answers, their tokens, and the tags that scripts have made."""

    def __init__(self, text):
        super().__init__()
        self.title, self.texts, self.tags, self.looks, self.ready = "", [], [], [], False
        self._stack = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ready |= "data-ready" in values
        self.tags.append(tag)
        if tag in ("title", "div", "span", "script", "style"):
            self._stack.append(values.get("class") if tag != "title" else "the title")
        if "data-token" in values:
            self.looks.append(values["class"])
        if values.get("class") == "text":
            self.texts.append("")

    def handle_endtag(self, tag):
        if tag in ("title", "div", "span", "script", "style"):
            self._stack.pop()

    def handle_data(self, data):
        if self._stack[-1:] == ["the title"]:
            self.title += data
        elif "text" in self._stack and not (self._stack[-1] or "").startswith("end"):
            self.texts[-1] += data


def test_a_browser_colours_tokens_by_entropy_and_marks_repetition(make_record, write_run, tmp_path):
    text = "a b c d e " * 6 + "f"  # 31 tokens; all but the last repeat
    entropies = [0.0, 0.3, 4.0] + [0.0] * 28
    run = write_run(tmp_path / "run", {1: [make_record("p0", 0, text, entropies=entropies)]})
    write_page(run, tmp_path / "page.html")
    shown = Shown(in_chromium(tmp_path / "page.html"))
    assert shown.looks == ["l0 repeat", "l2 repeat", "l7 repeat", *["l0 repeat"] * 27, "l0"]


def test_a_browser_shows_the_texts_and_runs_none_of_them(hostile_run, tmp_path):
    write_page(hostile_run, tmp_path / "page.html")
    tags = {}
    for step, problem, text in (
        (2, "p0", "<think> plain 2 0 </think> 7"),
        (1, HOSTILE, f"<think> {HOSTILE} </think> 7"),
    ):
        query = "".join(f"%{byte:02X}" for byte in problem.encode())
        shown = Shown(in_chromium(tmp_path / "page.html", fragment=f"#step={step}&problem={query}&compare={3 - step}"))
        assert shown.ready and shown.title.endswith("run: rollouts")
        assert len(shown.texts) == 8  # four answers of each step, side by side
        assert text in shown.texts and "owned" not in shown.title
        tags[problem] = shown.tags
    for tag in ("img", "script", "b"):
        assert tags["p0"].count(tag) == tags[HOSTILE].count(tag)
