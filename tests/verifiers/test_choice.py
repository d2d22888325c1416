import json
import random
import time

import pytest

from phi4r.verifiers.choice import ChoiceVerifier
from phi4r.verifiers.specification import specification
from phi4r.verifiers.verdict import TwoSpeedVerifier

NUMBERS = ["4", "5", "6", "7"]
PLACES = ["Northeast", "Northwest", "Southeast", "Southwest"]
SPECIES = ["E. coli", "B. subtilis", "S. aureus", "A decrease in pressure"]
FORMULAS = [r"$\frac{1}{2} m v^{2}$", r"$m v$", "mV", "MV"]
YES_NO = ["Yes", "No"]
LETTERED = ["x", "Vitamins A and D.", "C", "none"]


def reference(letter: str, options: list[str]) -> str:
    return json.dumps({"letter": letter, "options": options})


def chosen(solution: str, options: list[str] | None = None) -> str | None:
    """What the verifier takes for the answer; None where it finds none."""
    return ChoiceVerifier()(solution, reference("A", options) if options else "A").answer


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        # the last balanced box
        (r"\boxed{B}", "B"),
        (r"\boxed{(B)}", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        (r"\boxed{\text{B}}", "B"),
        (r"\boxed{\textbf{B}}", "B"),
        (r"\boxed{\mathrm{B}.}", "B"),
        (r"$$\boxed{\boxed{B}}$$", "B"),
        (r"\boxed{b}", "B"),
        (r"\boxed{**B**}", "B"),
        (r"\boxed{\text{Option B}}", "B"),
        (r"\boxed{B. 5}", "B"),
        (r"\boxed{\text{(B) } 5}", "B"),
        (r"\boxed{B) five}", "B"),
        (r"\boxed{B - 5}", "B"),
        (r"\boxed{A} is wrong, \boxed{B}", "B"),
        (r"\boxed{B}, and never \boxed{C", "B"),
        (r"The answer is A. \boxed{B} The answer is C.", "B"),
        (r"\fbox{B}", "B"),
        # announcements
        ("The answer is (B).", "B"),
        ("The answer is B", "B"),
        ("the correct answer is: **B**", "B"),
        ("Answer: B", "B"),
        ("**Answer:** B", "B"),
        ("**Answer**: (B)", "B"),
        ("final answer: **B**", "B"),
        ("Final answer: **(B) 5**", "B"),
        ("### Final Answer\n\n**B**", "B"),
        ("Answer:\n\nB. 5\n\nThis follows from A.", "B"),
        ("The answer is $\\text{B}$.", "B"),
        ("The answer is B because C is too large.", "B"),
        ("The answer is A, since B is too large.", "A"),
        ("The answer is B, A is wrong.", "B"),
        ("The answer is therefore (B).", "B"),
        ("The answer is most likely B", "B"),
        ("So the correct option is B.", "B"),
        ("The best choice is (B).", "B"),
        ("The answer is option B.", "B"),
        ("The answer is A. No: the answer is B.", "B"),
        ("The answer is B. The answer is not C.", "B"),
        ("The answer is B. Option C is wrong.", "B"),
        ("answer: b", "B"),
        ("Answer = B", "B"),
        # mentions
        ("Hence option B.", "B"),
        ("Option A fails, which leaves option B.", "B"),
        ("I choose option (B), not option C.", "B"),
        ("The answer is found by elimination.\nA, C and D fail, so option B holds.", "B"),
        # nothing but a choice
        ("B", "B"),
        (" **(B)** \n", "B"),
        ("B. 5", "B"),
        # texts of options
        (r"\boxed{5}", "B"),
        (r"\boxed{5.}", "B"),
        (r"\boxed{\text{5}}", "B"),
        ("The answer is 5.", "B"),
        ("Answer: 5. This follows from the rest.", "B"),
        # letters beyond the last option, and texts of none, are answers, and wrong
        (r"\boxed{E}", "E"),
        ("The answer is Z.", "Z"),
        (r"\boxed{8}", "8"),
        (r"\boxed{none of these}", "none of these"),
        (r"\boxed{not B}", "not B"),
        ("Answer: eight", "eight"),
        # no answer
        (r"\boxed{A or B}", None),
        (r"\boxed{A, B}", None),
        (r"\boxed{\text{A and B}}", None),
        (r"\boxed{A/B}", None),
        (r"\boxed{(A) or (B)}", None),
        (r"\boxed{AB}", "AB"),
        (r"\boxed{A. 4 or B. 5}", None),
        (r"\boxed{B. 6}", None),
        (r"\boxed{A or E}", None),
        (r"\boxed{}", None),
        ("The answer is A or B.", None),
        ("The answer is A or B because both fit.", None),
        ("The answer is (A) and (B).", None),
        ("Answer: B/C, most likely.", None),
        ("Hence options A or B.", None),
        ("I do not know.", None),
        ("A: too small.\nB: fits.", None),
        ("", None),
    ],
)
def test_the_choice_is_found_as_people_write_it(solution, answer):
    assert chosen(solution, NUMBERS) == answer


@pytest.mark.parametrize(
    ("solution", "options", "answer"),
    [
        (r"\boxed{northwest}", PLACES, "B"),
        ("The answer is **Northwest**.", PLACES, "B"),
        (r"\boxed{North}", PLACES, "North"),
        (r"\boxed{B. subtilis}", SPECIES, "B"),
        (r"\boxed{E. coli}", SPECIES, "A"),
        ("The answer is E. coli.", SPECIES, "A"),
        ("The answer is A decrease in pressure.", SPECIES, "D"),
        ("The answer is A decrease in volume.", SPECIES, "A decrease in volume."),
        (r"\boxed{\frac{1}{2}mv^2}", FORMULAS, r"\frac{1}{2}mv^2"),
        (r"\boxed{\frac{1}{2} m v^2}", FORMULAS, "A"),
        (r"\boxed{\text{mV}}", FORMULAS, "C"),
        (r"\boxed{mV}", FORMULAS, "C"),
        (r"\boxed{MV}", FORMULAS, "D"),
        (r"\boxed{yes}", YES_NO, "A"),
        ("The answer is no.", YES_NO, "B"),
        ("Answer: B. No", YES_NO, "B"),
        (r"\boxed{A. No}", YES_NO, None),
        (r"\boxed{C}", YES_NO, "C"),
        (r"\boxed{x}", LETTERED, "A"),
        (r"\boxed{C}", LETTERED, "C"),
        (r"\boxed{B. Vitamins A and D.}", LETTERED, "B"),
        (r"\boxed{Vitamins A and D}", LETTERED, "B"),
        (r"\boxed{J}", [str(i) for i in range(10)], "J"),
        ("The answer is I.", [str(i) for i in range(10)], "I"),
        ("The answer is I think 3", [str(i) for i in range(10)], "I think 3"),
        ("Of each option I think little.", [str(i) for i in range(10)], None),
        (r"\boxed{4}", ["4", "4", "5"], "4"),
        (r"\boxed{B}", None, "B"),
        (r"\boxed{J}", None, "J"),
        (r"\boxed{B. anything}", None, "B"),
        (r"\boxed{anything}", None, "anything"),
    ],
)
def test_the_text_of_exactly_one_option_counts_as_its_letter(solution, options, answer):
    assert chosen(solution, options) == answer


def test_right_wrong_missing_and_unjudgeable_are_told_apart():
    verifier, gold = ChoiceVerifier(thinking=True), reference("B", NUMBERS)
    right = verifier(r"<think>A?</think>\boxed{5}", gold)
    assert (right.correct, right.score, right.answer, right.status) == (True, 1.0, "B", "ok")
    wrong = verifier(r"</think>\boxed{C}", gold)
    assert (wrong.correct, wrong.score, wrong.answer, wrong.status) == (False, 0.0, "C", "ok")
    assert not verifier(r"</think>\boxed{E}", gold).correct
    assert verifier(r"<think>\boxed{B}", gold).status == "no_answer"
    assert verifier(r"<think></think>\boxed{B}</think>", gold).status == "no_answer"
    assert ChoiceVerifier()(r"\boxed{B}", gold).correct
    assert verifier(r"</think>\boxed{B}", "b").correct


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "BC",
        "3",
        "[]",
        '{"letter": "B"}',
        '{"letter": "C", "options": ["1", "2"]}',
        '{"letter": "", "options": ["1"]}',
        '{"letter": "AB", "options": ["1", "2"]}',
        '{"letter": "A", "options": [1, 2]}',
        '{"letter": "A", "options": "12"}',
        "[" * 100_000,
    ],
)
def test_a_malformed_reference_is_an_error_and_not_a_wrong_answer(malformed):
    assert ChoiceVerifier()(r"\boxed{B}", malformed).status == "error"


HOSTILE = {
    "nested braces": r"\boxed{" * 140_000,
    "nested boxes": r"\boxed{" * 100_000 + "B" + "}" * 100_000,
    "a long box": r"\boxed{" + "A or " * 200_000 + "}",
    "text commands": r"\boxed{" + r"\text{" * 160_000 + "}" * 160_001,
    "announcements": "answer is " * 100_000,
    "announced spaces": "answer" + " " * 1_000_000 + ": B",
    "mentions": "option (" * 125_000,
    "letters": "answer: " + "C B " * 250_000,
    "a long line": "answer: " + "B" * 1_000_000,
    "markup": "answer: " + "*" * 1_000_000,
    "spaces": "answer: " + r"\, " * 330_000,
    "surrogates": "\ud800" * 1_000_000 + r"\boxed{\udc00}",
    "controls": "\x00\x1b\u202e\r" * 250_000 + "option \x00B",
    "or": "option A" + " or A" * 200_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_takes_bounded_time(text):
    start = time.perf_counter()
    verdict = ChoiceVerifier()(text, reference("B", NUMBERS))
    assert time.perf_counter() - start < 2
    assert not verdict.correct and verdict.status in ("ok", "no_answer")


def test_random_pieces_of_answers_never_raise():
    rng = random.Random(0)
    pieces = [
        r"\boxed{",
        "}",
        "A",
        "B",
        " or ",
        "answer is ",
        "option ",
        "(",
        ")",
        ".",
        "\n",
        "**",
        r"\text{",
        "\\",
        "5",
    ]
    pieces += ["</think>", "$", "\ud800", "e", "'"]
    for _ in range(3000):
        verdict = ChoiceVerifier()("".join(rng.choices(pieces, k=rng.randrange(12))), reference("B", NUMBERS))
        assert verdict.status in ("ok", "no_answer")
        assert verdict.correct == (verdict.answer == "B")


def test_every_verdict_is_a_quick_one():
    verifier = ChoiceVerifier()
    assert isinstance(verifier, TwoSpeedVerifier)
    for response in (r"\boxed{B}", r"\boxed{C}", "none"):
        assert verifier.quick(response, "B") == verifier(response, "B")
    assert specification(verifier)["type"] == "phi4r.verifiers.choice:ChoiceVerifier"
