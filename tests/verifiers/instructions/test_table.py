"""Every type of instruction, on responses that follow it and responses that do not."""

import importlib.util
import pathlib

import pytest

from phi4r.errors import UserError
from phi4r.verifiers.instructions import INSTRUCTIONS, read_instructions

_SPEC = importlib.util.spec_from_file_location("languages", pathlib.Path(__file__).with_name("languages.py"))
_LANGUAGES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_LANGUAGES)
SAMPLES = _LANGUAGES.SAMPLES

PARAGRAPHS = {"num_paragraphs": 3, "nth_paragraph": 2, "first_word": "Weekend"}

# (id, arguments, responses that follow, responses that break)
CASES = [
    (
        "keywords:existence",
        {"keywords": ["cat", "dog"]},
        ["A Cat and a dog.", "DOG? cat!", "*cat*_dog_", "개 dog는 cat이"],
        ["A cat.", "A category of dogma: cat", "dogs and cats", "c.a.t dog"],
    ),
    ("keywords:existence", {"keywords": ["C++ (new)"]}, ["I like c++ (NEW)."], ["I like C.", "I like Cppp new"]),
    (
        "keywords:frequency",
        {"keyword": "war", "frequency": 2, "relation": "at least"},
        ["War and war.", "war, war, WAR"],
        ["war", "warm wars war", ""],
    ),
    (
        "keywords:frequency",
        {"keyword": "the", "frequency": 2, "relation": "less than"},
        ["The other one is there.", "No."],
        ["the end of the day", "The the"],
    ),
    (
        "keywords:forbidden_words",
        {"forbidden_words": ["step", "a.b"]},
        ["Steps and footstep.", "axb", "stepwise"],
        ["One Step.", "the *step*", "so a.b it is", "STEP-BY"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "q", "let_frequency": 2, "let_relation": "at least"},
        ["Qq", "quiq"],
        ["q"],
    ),
    ("keywords:letter_frequency", {"letter": "!", "let_frequency": 1, "let_relation": "less than"}, ["Hi."], ["Hi!"]),
    (
        "language:response_language",
        {"language": "de"},
        [SAMPLES["de"], SAMPLES["de"].upper(), "123 456"],
        [SAMPLES["en"], SAMPLES["hi"]],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "at least"},
        ["One. Two! Three?", "Dr. Smith left. He paid $3.50. Then he slept.", "Well... Yes. No"],
        [
            "One. Two.",
            "Dr. A. B. Smith, e.g. of Acme Inc. in the U.S. and elsewhere, left.",
            "1. Milk\n2. Eggs\n3. Tea",
        ],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        ["One line only", "It costs 3.5 dollars (see fig. 2)."],
        ["One. Two.", "वह गया। वह आया।"],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["a\n***\nb", "a *** b", "***\na\n***\nb\n***"],
        ["a\n\nb", "a\n***\n***\nb", "a***b***c", "a"],
    ),
    (
        "length_constraints:number_words",
        {"num_words": 4, "relation": "at least"},
        ["one two three four", "don't well-known", "1 2 3 4"],
        ["one two three", "...", "a - b - c"],
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, ["two words"], ["three words here"]),
    (
        "length_constraints:nth_paragraph_first_word",
        PARAGRAPHS,
        ["a\n\nweekend is\n\nb", "a\n\n\n\n“Weekend: yes\n\nb", 'a\n\n"WEEKEND," he\n\nb\n\n'],
        ["a\n\nweekend", "a\n\nthe weekend\n\nb", "weekend\n\na\n\nb", "a\n\nweekends\n\nb", "a\n\nweekend\n\nb\n\nc"],
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        ["[name] at [address]", "[[a]] [b c]", "[a][b][c]"],
        ["[name]", "[name] []", "[na\nme] [x", "[ ] task, [x] done"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["Bye\nP.S. one more", "Bye. p. s. hm", "**P.S.** so"],
        ["Bye\nPS one more", "P.S one", "lamp. s. t."],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.P.S"},
        ["Bye\nP.P.S. two", "P.P.S two", "p. p. s. x"],
        ["P.S. one", "PPS", "P.P. Smith"],
    ),
    ("detectable_content:postscript", {"postscript_marker": "N.B"}, ["n.b this"], ["nxb this"]),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* a\n* b", "Text:\n - a\n - *b*\n---\nend", "* **a**: x\n\t* b\n***"],
        ["* a", "* a\n* b\n* c", "*a*\n*b*", "-5\n-6", "1. a\n2. b"],
    ),
    (
        "detectable_format:constrained_response",
        {},
        ["My answer is yes.", "Hm. My answer is maybe. Or so."],
        ["my answer is yes.", "My answer is yes", "Yes.", "My answer is yes. My answer is no."],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a* and **b c**", "***a*** *b*", "* *a*\n* **b**"],
        ["*a*", "**a**", "***a***", "* a * b", "*a\nb* *c*", "** **", "* **a** is one"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        ["SECTION 1\na\nSECTION 2\nb", "**SECTION1** x SECTION 2:"],
        ["Section 1 Section 2", "SECTION 1", "SECTION A SECTION B"],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": [1, 2.5, null]}', '```json\n{"a": 1}\n```', "```JSON\n[]\n```", "[" + "9" * 9999 + "]"],
        ["{a: 1}", 'Here: {"a": 1}', "", '{"a": NaN}', '```json\n{"a": 1}\n``` done', "[" * 100_000],
    ),
    (
        "detectable_format:title",
        {},
        ["<<joy>>", "# << A title >>\ntext", "<<<x>>>"],
        ["<joy>", "<<>>", "<< >>", "<<a\nb>>", ">>a<<", "<<<>>>", "<<joy"],
    ),
    (
        "combination:two_responses",
        {},
        ["a\n******\nb", "******a******b", "a******b******"],
        ["a", "a******a", "a******b******c", "a************b", "a***b", "a****** "],
    ),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Write a poem. Now"},
        ["Write a poem. Now\nOnce", "  WRITE A POEM. NOW"],
        ["Sure! Write a poem. Now", "Write a poem now", "Write"],
    ),
    (
        "startend:end_checker",
        {"end_phrase": "The end."},
        ["x the END.", '"x. The end."', "The end.  \n"],
        ["The end. Bye", "The end", "The end.)"],
    ),
    ("startend:quotation", {}, ['"a"', ' "a "b" c" '], ['"', "a", '"a', "'a'", '"a".']),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["NASA and ESA", "I'm sure I am", "WELL-KNOWN B2B"],
        ["Nasa NASA", "WELL-KNOWN", "1 2 3 !"],
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 1, "capital_relation": "less than"},
        ["No capitals here", "Mr. Smith"],
        ["I am", "The USA"],
    ),
    (
        "change_case:english_capital",
        {},
        [SAMPLES["en"].upper(), "YES!"],
        [SAMPLES["en"], SAMPLES["de"].upper(), SAMPLES["hi"], "123"],
    ),
    (
        "change_case:english_lowercase",
        {},
        [SAMPLES["en"].lower(), "no, 2 of them"],
        [SAMPLES["en"], SAMPLES["fi"].lower(), SAMPLES["ja"], ""],
    ),
    ("punctuation:no_comma", {}, ["a; b. c", "1.000"], ["a, b", "1,000", "نعم، لا", "是\uff0c不"]),
]

# What the published scorer makes of responses that are judged otherwise here: (id, arguments, response, its verdict).
QUIRKS = [
    ("keywords:existence", {"keywords": ["cat"]}, "a category", True),
    ("keywords:frequency", {"keyword": "the", "frequency": 2, "relation": "less than"}, "The other one.", False),
    ("length_constraints:number_sentences", {"num_sentences": 4, "relation": "at least"}, "1. Buy it.\n2. Go.", True),
    ("length_constraints:nth_paragraph_first_word", PARAGRAPHS, "a\n\n\n\nweekend\n\nb", False),
    ("length_constraints:nth_paragraph_first_word", PARAGRAPHS, "a\n\nweekend:\n\nb", False),
    ("detectable_content:number_placeholders", {"num_placeholders": 1}, "a [] b", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "text\n---\ntext", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "*Note*: text", True),
    ("detectable_format:constrained_response", {}, "My answer is yes. My answer is no.", True),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "* **a** is one", True),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "***a***", True),
    ("detectable_format:json_format", {}, '{"a": NaN}', True),
    ("punctuation:no_comma", {}, "نعم، لا", True),
]


def _follows(name, arguments, response, *, compat=False):
    (instruction,) = read_instructions([name], [arguments], compat=compat)
    return instruction.check(response)


@pytest.mark.parametrize(("name", "arguments", "right", "wrong"), CASES)
def test_an_instruction_is_followed_or_broken(name, arguments, right, wrong):
    assert [response for response in right if not _follows(name, arguments, response)] == []
    assert [response for response in wrong if _follows(name, arguments, response)] == []


def test_all_25_types_are_tried():
    assert {case[0] for case in CASES} == set(INSTRUCTIONS)
    assert len(INSTRUCTIONS) == 25


@pytest.mark.parametrize(("name", "arguments", "response", "published"), QUIRKS)
def test_compat_judges_as_the_published_scorer_does(name, arguments, response, published):
    assert _follows(name, arguments, response, compat=True) is published
    assert _follows(name, arguments, response) is not published


@pytest.mark.parametrize("language", SAMPLES)
def test_each_language_is_recognised(language):
    assert _follows("language:response_language", {"language": language}, SAMPLES[language])
    assert not _follows(
        "language:response_language", {"language": "sw" if language != "sw" else "en"}, SAMPLES[language]
    )


@pytest.mark.parametrize("language", SAMPLES)
def test_langdetect_recognises_each_language_in_compat(language):
    pytest.importorskip("langdetect")
    assert _follows("language:response_language", {"language": language}, SAMPLES[language], compat=True)


def test_langdetect_always_says_the_same_of_a_text():
    pytest.importorskip("langdetect")
    text = "ok so no va bene und danke"  # of several languages
    verdicts = {
        tuple(
            _follows("language:response_language", {"language": language}, text, compat=True)
            for language in ("de", "en", "it")
        )
        for _ in range(5)
    }
    assert len(verdicts) == 1


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        (["keywords:rhyme"], [{}], "unknown instruction 'keywords:rhyme'"),
        ([7], [{}], "unknown instruction '7'"),
        (["startend:quotation"], [], "lists of equal length"),
        ([], [], "not empty"),
        ("punctuation:no_comma", [{}], "must be lists"),
        (["startend:quotation"], ["x"], "must be an object"),
        (["keywords:existence"], [{}], "'keywords'"),
        (["keywords:existence"], [{"keywords": "cat"}], "a list of 1 to 100 texts"),
        (["keywords:existence"], [{"keywords": ["cat", ""]}], "not empty"),
        (["keywords:letter_frequency"], [{"letter": "ab"}], "one character"),
        (["length_constraints:number_words"], [{"num_words": -1, "relation": "at least"}], "a whole number"),
        (["length_constraints:number_words"], [{"num_words": True, "relation": "at least"}], "a whole number"),
        (["length_constraints:number_words"], [{"num_words": 5, "relation": "at most"}], "'at least' or 'less than'"),
        (["language:response_language"], [{"language": "xx"}], "one of ar, bg"),
        (["length_constraints:nth_paragraph_first_word"], [{**PARAGRAPHS, "nth_paragraph": 4}], "from 1 to"),
    ],
)
def test_a_malformed_instruction_is_refused_in_one_line(names, arguments, message):
    with pytest.raises(UserError, match=message) as error:
        read_instructions(names, arguments)
    assert "\n" not in str(error.value)


def test_numbers_that_a_table_with_gaps_made_floats_are_read():
    assert _follows("length_constraints:number_words", {"num_words": 2.0, "relation": "at least"}, "two words")
