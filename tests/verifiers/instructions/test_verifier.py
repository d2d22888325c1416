import json
import sys
import time

import pytest

from phi4r.errors import UserError
from phi4r.verifiers import VerifierPool
from phi4r.verifiers.instructions import InstructionVerifier, detection


def _reference(*pairs):
    names, arguments = zip(*pairs, strict=True)
    return json.dumps({"instruction_id_list": names, "kwargs": arguments, "prompt": "p"})


NO_COMMA = ("punctuation:no_comma", {})
TWO_BULLETS = ("detectable_format:number_bullet_lists", {"num_bullets": 2})
QUOTED = ("startend:quotation", {})
ENGLISH = ("language:response_language", {"language": "en"})


def test_a_response_is_right_if_it_follows_all_instructions_to_the_letter():
    verdict = InstructionVerifier()("* a\n* b", _reference(NO_COMMA, TWO_BULLETS))
    assert (verdict.correct, verdict.score, verdict.status, verdict.answer) == (True, 1.0, "ok", "* a\n* b")
    assert verdict.parts == {
        "prompt_strict": 1.0,
        "prompt_loose": 1.0,
        "instructions": 2.0,
        "instructions_strict": 2.0,
        "instructions_loose": 2.0,
        "number/punctuation": 1.0,
        "strict/punctuation": 1.0,
        "number/detectable_format": 1.0,
        "strict/detectable_format": 1.0,
    }


def test_partial_credit_is_the_share_of_instructions_followed():
    verdict = InstructionVerifier()("* a, b", _reference(NO_COMMA, TWO_BULLETS, QUOTED, NO_COMMA))
    assert (verdict.correct, verdict.score, verdict.parts["instructions"]) == (False, 0.0, 4.0)
    verdict = InstructionVerifier()("* a", _reference(NO_COMMA, TWO_BULLETS, QUOTED, NO_COMMA))
    assert (verdict.correct, verdict.score) == (False, 0.5)
    assert verdict.parts["number/punctuation"] == verdict.parts["strict/punctuation"] == 2.0


@pytest.mark.parametrize(
    "response",
    [
        '*"quoted"*',
        'Sure!\n"quoted"',
        '"quoted"\nI hope that helps.',
        'Sure!\n"quoted"\nBye.',
        'Sure!\n**"quoted"**',
        '**"quoted"**\nBye.',
        'Sure!\n*"quoted\nagain"*\nBye.',
        'Sure!\n\n"quoted"\n\nBye.',
    ],
)
def test_a_loose_reading_forgives_stars_and_a_first_and_a_last_line(response):
    verdict = InstructionVerifier()(response, _reference(QUOTED))
    assert (verdict.parts["prompt_strict"], verdict.parts["prompt_loose"]) == (0.0, 1.0)
    assert not verdict.correct


def test_a_loose_reading_forgives_no_more():
    verdict = InstructionVerifier()('Sure!\nHere:\n"quoted"', _reference(QUOTED))
    assert verdict.parts["prompt_loose"] == 0.0


def test_different_instructions_may_be_followed_by_different_versions():
    # The bullets are there with the stars only, the quotes without the first line only.
    verdict = InstructionVerifier()('Sure, *:\n"\n* a\n* b\n"', _reference(TWO_BULLETS, QUOTED, NO_COMMA))
    assert verdict.parts["instructions_strict"] == 1.0
    assert verdict.parts["instructions_loose"] == 3.0


def test_only_what_follows_the_last_thought_is_judged():
    reference = _reference(NO_COMMA)
    assert InstructionVerifier(thinking=True)("<think>a, b</think>\n\nc", reference).correct
    assert not InstructionVerifier(thinking=True)("<think>a</think>b</think>c, d", reference).correct


@pytest.mark.parametrize(("thinking", "response"), [(True, "<think>no comma"), (True, "a</think> \n"), (False, "  ")])
def test_no_answer_follows_nothing_and_still_counts_its_instructions(thinking, response):
    verdict = InstructionVerifier(thinking=thinking)(response, _reference(NO_COMMA, QUOTED))
    assert (verdict.correct, verdict.score, verdict.status, verdict.answer) == (False, 0.0, "no_answer", None)
    assert verdict.parts["instructions"] == 2.0
    assert verdict.parts["prompt_loose"] == verdict.parts["instructions_loose"] == 0.0


@pytest.mark.parametrize(
    "reference", ["", "x", "[]", "{}", '{"instruction_id_list": ["a:b"], "kwargs": [{}]}', "[" * 100_000, "null"]
)
def test_a_malformed_reference_is_an_error_of_the_judge(reference):
    assert InstructionVerifier()("text", reference).status == "error"


def test_a_pool_judges_languages():
    english = "This morning I went to the market and bought bread and fruit."
    with VerifierPool(num_workers=1) as pool:
        verdicts = pool.verify_all(
            InstructionVerifier(), [english, "Heute morgen war ich auf dem Markt."], [_reference(ENGLISH)] * 2
        )
    assert [verdict.correct for verdict in verdicts] == [True, False]


def test_a_missing_detector_is_said_and_is_no_verdict(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    detection._py3langid.cache_clear()
    with VerifierPool(num_workers=1) as pool, pytest.raises(UserError, match=r"phi4r\[ifeval\]"):
        pool.verify_all(InstructionVerifier(), ["This is an English sentence."], [_reference(ENGLISH)])


def test_an_endless_answer_follows_nothing():
    assert not InstructionVerifier()("a" * 1_000_001, _reference(NO_COMMA)).correct
    assert InstructionVerifier()("a" * 1_000_000, _reference(NO_COMMA)).correct


EVERYTHING = _reference(
    NO_COMMA, TWO_BULLETS, QUOTED, ENGLISH,
    ("keywords:existence", {"keywords": ["(a+)+$", "aa"]}),
    ("keywords:frequency", {"keyword": "aaaaaaaab", "frequency": 1, "relation": "at least"}),
    ("keywords:forbidden_words", {"forbidden_words": ["a" * 50 + "b"]}),
    ("keywords:letter_frequency", {"letter": "a", "let_frequency": 1, "let_relation": "at least"}),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}),
    ("length_constraints:number_words", {"num_words": 2, "relation": "at least"}),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "a"}),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}),
    ("detectable_format:constrained_response", {}),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}),
    ("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 2}),
    ("detectable_format:json_format", {}),
    ("detectable_format:title", {}),
    ("combination:two_responses", {}),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Write"}),
    ("startend:end_checker", {"end_phrase": "the end"}),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}),
    ("change_case:english_capital", {}),
    ("change_case:english_lowercase", {}),
)  # fmt: skip

PIECES = [
    "[", "<", "<<", ">>", "*", "* ", "** ", "-", "- ", "\n", " ", "\t", ".", ". ", "!?", "a", "A", "a.", "1. ", "I'",
    "'", "n't", "SECTION", "p. p.", "\\", '"', "{", "{\"a\":", "[]", "a-", "a/", "(", "e.g. ", "...", "*a", "\u0301",
    "\ud800", "\x00", "\u3002", "```", "a@a.", "http://", "]\n[", "***a", "\n\n", "अ",
]  # fmt: skip


@pytest.mark.parametrize("compat", [False, True])
def test_hostile_text_is_judged_in_time_linear_in_its_length(compat):
    verifier = InstructionVerifier(compat=compat)
    slow = {}
    for piece in PIECES:
        text = (piece * 100_000)[:100_000]
        start = time.process_time()
        verdict = verifier(text, EVERYTHING)
        seconds = time.process_time() - start
        assert verdict.status in ("ok", "no_answer"), piece
        if seconds > 1.5:  # quadratic checks take minutes
            slow[piece] = seconds
    assert not slow


def test_a_megabyte_is_judged_within_the_deadline_of_the_pool():
    verifier = InstructionVerifier()
    for piece in ("[", "*a ", "\n", "a. "):
        start = time.process_time()
        assert verifier((piece * 1_000_000)[:1_000_000], EVERYTHING).status in ("ok", "no_answer")
        assert time.process_time() - start < 5.0
