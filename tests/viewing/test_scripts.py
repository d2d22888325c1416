"""The pure functions of the page, run by node."""

import importlib.resources
import json
import shutil
import subprocess

import pytest

ASSETS = importlib.resources.files("phi4r.viewing") / "assets"

CASES = {
    "[0, 0.05, 0.4, 99].map((value) => level(value, CUTS.entropy))": [0, 1, 2, 7],
    "[[0, 2], [2, 3], [3, 6], [6, 8], [8, 11], [9, 10]].map(([a, b]) => touches([2, 4, 8, 9], a, b))": [
        False,
        True,
        True,
        False,
        True,
        False,
    ],
    "touches([], 0, 9)": False,
    'findAll("a.b A.B axb", "a.B")': [0, 3, 4, 7],
    'findAll("anything", "")': [],
    'findAll("(x)+[y]\\\\", "(x)+[y]\\\\")': [0, 8],
    'piecesOf({text: "one  two", lengths: [0, 3, 5, 0]})': [
        {"start": 0, "end": 3, "token": 1},
        {"start": 3, "end": 8, "token": 2},
    ],
    'piecesOf({text: "one  two ", lengths: null}).map((piece) => [piece.start, piece.end, piece.token])': [
        [0, 3, -1],
        [3, 8, -1],
        [8, 9, -1],
    ],
    'valueOf({entropies: [150], surprises: [25], gaps: null}, 0, "entropy")': 1.5,
    'valueOf({entropies: [150], surprises: [25], gaps: null}, 0, "surprise")': 0.25,
    'valueOf({entropies: [150], surprises: [25], gaps: null}, 0, "gap")': None,
    """[{verdict: "right"}, {verdict: "wrong"}, {finish: "length"}, {status: "ok"}, {query: "ABC"}, {query: "z"}, {}]
        .map((filters) => passes({right: true, finish: "stop", status: "ok", text: "xabcx"}, filters))""": [
        True,
        False,
        False,
        True,
        True,
        False,
        True,
    ],
    """figuresOf([{right: true, reward: 1, tokens: 10, entropy: 0.5},
        {right: false, reward: -1, tokens: 20, entropy: null}])""": {
        "right": 1,
        "accuracy": 0.5,
        "reward": 0,
        "spread": 1,
        "tokens": 15,
        "entropy": 0.5,
    },
    "largestFirst([[1, 2], [2, null], [3, 5], [4, 2]], (item) => item[1]).map((item) => item[0])": [3, 1, 4, 2],
    "ticks(0.11, 0.92, 5)": [0.2, 0.4, 0.6, 0.8],
    "ticks(-1.18, 1.18, 4)": [-1, 0, 1],
    "ticks(0, 31744, 5)": [0, 10000, 20000, 30000],
    "nearest([10, 20, 30], 16)": 20,
    """cluster([{x: 30, y: 5, kind: "right", label: 1}, {x: 10, y: 5, kind: "right", label: 2},
        {x: 20, y: 6, kind: "right", label: 3}, {x: 21, y: 6, kind: "wrong", label: 4}], 12, 3)""": [
        {"x": 20, "y": 5, "kind": "right", "labels": [2, 3, 1]},
        {"x": 21, "y": 6, "kind": "wrong", "labels": [4]},
    ],
    "[format(0.123), format(-11402.4, 0), format(0), format(0.0012), format(null)]": [
        "0.12",
        "\u221211,402",
        "0.00",
        "1.2e-3",
        "\u2013",
    ],
    "[0.045, 0.05].map(axisText([0.045, 0.05]))": ["0.045", "0.050"],
    "[0, 0.005].map(axisText([0, 0.005], 100, '%'))": ["0%", "0.5%"],
    "[0, 10000].map(axisText([0, 10000]))": ["0", "10,000"],
    "[seconds(0.44), seconds(35.2)]": ["0.4 s", "35 s"],
    "[percent(0.857), percent(1), percent(null)]": ["86%", "100%", "\u2013"],
}


@pytest.fixture(scope="module")
def results():
    """What every case gives, from one run of node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here; install one to test the scripts of the page")
    logic = (ASSETS / "logic.js").read_text(encoding="utf-8")
    script = f"{logic}\nconsole.log(JSON.stringify([{', '.join(CASES)}]));"
    run = subprocess.run([node, "-"], input=script.encode(), capture_output=True, timeout=60, check=True)
    return dict(zip(CASES, json.loads(run.stdout), strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.split("(")[0].strip("[0"))
def test_a_function_gives_what_was_worked_out_by_hand(case, results):
    assert results[case] == CASES[case]


def test_no_script_or_style_ends_its_own_element():
    for name in ("logic.js", "charts.js", "tokens.js", "group.js", "app.js", "style.css"):
        assert "</" not in (ASSETS / name).read_text(encoding="utf-8").replace('"</think>"', "")
