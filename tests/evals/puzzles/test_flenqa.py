import collections
import importlib.util
import pathlib
import random
import re

import pytest

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.puzzles.flenqa import DISPERSIONS, FLENQA, LENGTHS, PADDINGS
from phi4r.evals.puzzles.flenqa_facts import COLOURS, KINDS, PROPERTIES, RELATIONS, ROOMS
from phi4r.evals.puzzles.puzzle import PuzzleProblems
from phi4r.evals.puzzles.words import PEOPLE, num_tokens

NAME, ROOM = r"[A-Z][a-z]+ [A-Z][a-z]+", r"[Tt]he [a-z]+ [a-z]+"


def _problems(num: int, *, split: str = "test", **parameters) -> list[Problem]:
    return list(PuzzleProblems(FLENQA, num=num, seed=0, split=split, **parameters))


def _text(problem: Problem) -> str:
    return re.search(r"Text:\n(.*)\n\n", problem.prompt)[1]


def _sentences(problem: Problem) -> list[str]:
    return re.findall(r"[^.]+\.", _text(problem))


def _derived(links: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The transitive closure."""
    closure = set(links)
    while more := {(a, d) for a, b in closure for c, d in closure if b == c} - closure:
        closure |= more
    return closure


def _entailed_in_full(problem: Problem) -> bool:
    """Reads every fact of the text, the padding's too, and says whether the statement follows from them."""
    text, statement = _text(problem), re.search(r"Statement: (.*)\.", problem.prompt)[1]
    if problem.meta["kind"] == "relations":
        links = re.findall(rf"({NAME}) is [a-z]+ than ({NAME})\.", text)
        assert len(links) > len(set(links)) / 2
        return re.fullmatch(rf"({NAME}) is [a-z]+ than ({NAME})", statement).groups() in _derived(set(links))
    if problem.meta["kind"] == "rules":
        facts = set(re.findall(rf"({NAME}) (?:is|has been) ([a-z]+)\.", text))
        one, two, then = re.search(r"Whoever is (\w+) and (\w+) is also (\w+)", problem.prompt).groups()
        person, word = re.fullmatch(rf"({NAME}) is ([a-z]+)", statement).groups()
        assert word == then
        return (person, then) in facts or {(person, one), (person, two)} <= facts
    homes = {name: room for name, room in re.findall(rf"({NAME}) (?:is )?in ({ROOM})\.", text)}
    homes |= {name: room for room, name in re.findall(rf"has the key to ({ROOM}), so there ({NAME}) sits", text)}
    colours = {}
    for pattern in (
        rf"({ROOM}) has ([a-z]+) walls",
        rf"walls of ({ROOM}) are ([a-z]+)",
        rf"In ({ROOM}) all the walls are ([a-z]+)",
        rf"gave ({ROOM}) its ([a-z]+) walls",
    ):
        colours |= {room.lower(): colour for room, colour in re.findall(pattern, text)}
    person, colour = re.fullmatch(rf"({NAME}) is in a room with ([a-z]+) walls", statement).groups()
    return colours[homes[person].lower()] == colour


def _entailed_in_short(prompt: str) -> bool:
    """The same for short wording."""
    *facts, asked = prompt.removesuffix("?").split()
    if "=" in asked:
        homes = dict(fact.split("@") for fact in facts if "@" in fact)
        walls = dict(fact.split("=") for fact in facts if "=" in fact)
        return walls[homes[asked[0]]] == asked[2]
    if "+" in asked:
        rule, *facts = facts
        return {f"{asked[0]}+{rule[0]}", f"{asked[0]}+{rule[1]}"} <= set(facts)
    return (asked[0], asked[2]) in _derived({(fact[0], fact[2]) for fact in facts})


def test_labels_are_what_all_facts_of_the_text_entail():
    for problem in _problems(300, length=500):
        assert _entailed_in_full(problem) == (problem.answer == "true"), problem


@pytest.mark.parametrize("length", [0, 60])
def test_labels_in_short_wording_are_what_all_facts_entail(length):
    for problem in _problems(300, length=length, wording="short", padding="resample"):
        assert _entailed_in_short(problem.prompt) == (problem.answer == "true"), problem


def test_every_cell_of_the_evaluation_set_has_fifty_true_and_fifty_false():
    rng = random.Random(0)
    instances = [FLENQA.draw(rng, index, **FLENQA.parameters) for index in range(FLENQA.num_items)]
    cells = collections.Counter((i.kind, i.dispersion, i.padding, i.length, i.label) for i in instances)
    assert len(cells) == len(KINDS) * len(DISPERSIONS) * len(PADDINGS) * len(LENGTHS) * 2
    assert set(cells.values()) == {50}


def test_the_subset_of_the_report_is_balanced_too():
    problems = _problems(240, length="3000")
    assert {problem.meta["length"] for problem in problems} == {3000}
    cells = collections.Counter((p.meta["kind"], p.meta["dispersion"], p.meta["padding"]) for p in problems)
    assert set(cells.values()) == {10}
    assert collections.Counter(problem.answer for problem in problems) == {"true": 120, "false": 120}


def test_texts_have_the_length_asked_for_by_the_vocabulary_of_a_real_model(monkeypatch):
    tiktoken = pytest.importorskip("tiktoken")
    found = importlib.util.find_spec("litellm")
    if found is None:
        pytest.skip("no vocabulary at hand; litellm has one")
    monkeypatch.setenv(
        "TIKTOKEN_CACHE_DIR", str(pathlib.Path(found.origin).parent / "litellm_core_utils" / "tokenizers")
    )
    encoding = tiktoken.get_encoding("cl100k_base")
    for problem in _problems(240):
        text = _text(problem)
        assert len(encoding.encode(text)) == pytest.approx(problem.meta["length"], rel=0.05)
        assert num_tokens(text) == pytest.approx(len(encoding.encode(text)), rel=0.02)


def test_key_facts_stand_where_the_dispersion_says():
    for problem in _problems(120, length=1000):
        sentences = [sentence.strip() for sentence in _sentences(problem)]
        first, second = sorted(sentences.index(fact) for fact in problem.meta["evidence"])
        last = len(sentences) - 1
        if problem.meta["dispersion"] == "random":
            continue
        assert second == first + 1
        assert abs(first - {"first": 0, "middle": (last - 1) / 2, "last": last - 1}[problem.meta["dispersion"]]) <= 0.5
    apart = [
        abs(sentences.index(a) - sentences.index(b)) > 1
        for problem in _problems(60, length=1000, dispersion="random")
        for sentences in [[sentence.strip() for sentence in _sentences(problem)]]
        for a, b in [problem.meta["evidence"]]
    ]
    assert sum(apart) > 50


def test_padding_never_repeats_a_sentence_and_never_speaks_of_the_people_of_the_key_facts():
    for problem in _problems(48, length=3000):
        sentences = [sentence.strip() for sentence in _sentences(problem)]
        assert len(set(sentences)) == len(sentences) > 150
        padding = " ".join(sentence for sentence in sentences if sentence not in problem.meta["evidence"])
        key = " ".join(problem.meta["evidence"])
        assert not any(re.search(rf"\b{name}\b", key) and re.search(rf"\b{name}\b", padding) for name in PEOPLE)


@pytest.mark.parametrize(
    "parameters", [{"length": 500}, {"length": 0}, {"length": 0, "wording": "short"}, {"wording": "short"}]
)
def test_the_verifier_accepts_the_worked_solution(parameters):
    verifier = FLENQA.make_verifier(True)
    for problem in _problems(200, **parameters):
        trace = FLENQA.solve(problem)
        assert verifier(f"<think>{trace.thought}</think>{trace.solution}", trace.answer).correct, (problem, trace)
        assert all(fact in problem.prompt and fact in trace.thought for fact in problem.meta["evidence"])


def test_short_prompts_without_padding_are_three_facts_long_and_splits_share_none():
    prompts = {
        split: {p.prompt for p in _problems(400, split=split, length=0, wording="short")} for split in ("train", "test")
    }
    assert not prompts["train"] & prompts["test"]
    assert max(map(len, prompts["train"])) < 25


def test_lengths_that_take_turns_are_balanced_and_are_counted_in_letters_in_short_wording():
    problems = _problems(360, length="0,9,24", padding="resample", wording="short")
    assert collections.Counter(p.meta["length"] for p in problems) == {0: 120, 9: 120, 24: 120}
    assert collections.Counter(p.answer for p in problems if p.meta["length"] == 9) == {"true": 60, "false": 60}
    for problem in problems:
        facts = problem.prompt.split()[problem.meta["kind"] == "rules" : -1]
        assert [len(fact) for fact in facts] == [3] * max(2, problem.meta["length"] // 3)
        unpadded = problem.meta["length"] == 0
        assert (problem.meta["padding"], problem.meta["dispersion"] == "none") == (
            "none" if unpadded else "resample",
            unpadded,
        )
        assert _entailed_in_short(problem.prompt) == (problem.answer == "true"), problem


def test_lengths_take_turns_in_full_wording_too():
    mixed = _problems(24, length="250,500", padding="prose", dispersion="first", kind="rooms")
    assert [problem.meta["length"] for problem in mixed] == [250, 500] * 12


@pytest.mark.parametrize("words", [PEOPLE, RELATIONS, ROOMS, COLOURS, PROPERTIES])
def test_the_initials_of_words_tell_them_apart(words):
    assert len({word[0] for word in words}) == len(words)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (dict(length=20), "length=20"),
        (dict(length="long"), "length=long"),
        (dict(length=10_001), "50 to 10000"),
        (dict(length=8, wording="short"), "9 to 10000"),
        (dict(length="0,,250"), "length=0,,250"),
        (dict(kind="maze"), "relations, rooms, rules"),
        (dict(padding="books"), "resample, prose"),
        (dict(dispersion="end"), "first, middle, last, random"),
        (dict(wording="long"), "full or short"),
    ],
)
def test_unknown_parameters_are_refused(parameters, message):
    with pytest.raises(UserError, match=message):
        _problems(1, **parameters)
