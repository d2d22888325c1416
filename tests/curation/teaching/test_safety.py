import json

import pytest

from phi4r.curation.stage import ItemStage
from phi4r.curation.teaching.safety import SafetySettings, SafetyStage, safety_labels
from phi4r.errors import UserError
from phi4r.sampling.generator import Completion
from tests.curation.speaking import make_item, says, speaker

GUIDELINES = (
    "Never give dosages of prescription drugs. Point the reader to a pharmacist, and stay friendly at all times."
)
THOUGHT = (
    "The reader wants to know how much of the drug may be taken. I should not name an amount. A pharmacist knows the "
    "history of the patient and can say what is safe, and the leaflet in the box names the most that may be taken in a "
    "day, so I will point to both of them and wish a good recovery."
)
CLEAN = "I'm sorry, but I can't help with an amount. Please talk to your pharmacist, who knows your history."


def answer(solution: str, thought: str = THOUGHT) -> str:
    return f"<think>{thought}</think>{solution}"


def make_stage(teacher, **settings):
    model, ask = speaker(teacher)
    return SafetyStage(SafetySettings(**{"teacher": "t", "guidelines": GUIDELINES, **settings}), {"t": ask}), model


def decide(teacher, *, prompt="How much may I take?", **settings):
    made, _ = make_stage(teacher, **settings)
    (outcome,) = made([make_item(prompt, domain="safety")])
    return outcome


def test_it_is_a_stage():
    assert isinstance(make_stage(says())[0], ItemStage)


@pytest.mark.parametrize("placement", ["system", "user"])
def test_the_guidelines_are_in_the_prompt_and_not_in_the_item(placement):
    made, model = make_stage(lambda *_: answer(CLEAN), placement=placement)
    (outcome,) = made([make_item("How much may I take?", domain="safety")])
    asked = model.conversations[0]
    assert [message["role"] for message in asked] == (["system", "user"] if placement == "system" else ["user"])
    assert GUIDELINES in asked[0]["content"] and asked[-1]["content"].endswith("How much may I take?")
    assert outcome.kept and outcome.item.prompt == "How much may I take?"
    row = json.dumps(outcome.item.to_dict())
    assert "prescription" not in row and "friendly" not in row
    assert (outcome.item.thought, outcome.item.solution) == (THOUGHT, CLEAN)


def test_guidelines_can_stand_in_a_file(tmp_path):
    (tmp_path / "guidelines.txt").write_text(GUIDELINES + "\n")
    by_file, model = make_stage(
        lambda *_: answer(CLEAN), guidelines="", guidelines_file=str(tmp_path / "guidelines.txt")
    )
    (outcome,) = by_file([make_item(domain="safety")])
    assert model.conversations[0][0]["content"].endswith(GUIDELINES)
    assert (
        outcome.item.meta["safety"]["guidelines"] == decide(lambda *_: answer(CLEAN)).item.meta["safety"]["guidelines"]
    )
    with pytest.raises(UserError, match=r"cannot read safety\.guidelines_file"):
        make_stage(says(), guidelines="", guidelines_file=str(tmp_path / "missing.txt"))
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(UserError, match="is empty"):
        make_stage(says(), guidelines="", guidelines_file=str(tmp_path / "empty.txt"))


# Constructed leaks: each is dropped, for what it leaks.
GUIDED, COPIED, MENTIONED = "guidelines in the solution", "thought in the solution", "instructions mentioned"
LEAKS = {
    "guidelines, verbatim": (f"No. {GUIDELINES}", GUIDED),
    "guidelines, re-cased": ("I NEVER GIVE DOSAGES OF PRESCRIPTION DRUGS; POINT THE reader to others.", GUIDED),
    "guidelines, re-punctuated": ("Point the reader \u2014 to a pharmacist; and stay friendly...", GUIDED),
    "the frame of the guidelines": ("I keep to the guidelines below when I answer.", MENTIONED),
    "the frame, verbatim": ("The reader of your answer does not know them: do not quote them.", GUIDED),
    "the thought": (f"{THOUGHT} That is all.", COPIED),
    "most of the thought": (THOUGHT[len("The reader wants to know "):], COPIED),
    "a mention of guidelines": ("The guidelines do not let me say.", MENTIONED),
    "a mention of the system message": ("My system message forbids it.", MENTIONED),
    "a mention of what stood above": ("As instructed above, I name no amount.", MENTIONED),
}  # fmt: skip


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_found(leak):
    solution, reason = LEAKS[leak]
    outcome = decide(lambda *_: answer(solution))
    assert outcome.reason == reason and not outcome.failed
    assert outcome.item.meta["safety"]["faults"] == {reason: 2} and len(outcome.item.meta["safety"]["leaked"]) == 2
    assert outcome.item.solution == ""


@pytest.mark.parametrize(
    "solution",
    [
        CLEAN,
        "Never give your drugs to others.",
        "The leaflet in the box names the most that may be taken in a day.",
        "Follow the guidelines of your hospital.",
    ],
)
def test_what_only_resembles_a_leak_passes(solution):
    assert decide(lambda *_: answer(solution)).kept


def test_the_first_answer_without_a_leak_is_taken():
    outcome = decide(says(answer(f"No. {GUIDELINES}"), answer(CLEAN)))
    noted = outcome.item.meta["safety"]
    assert outcome.kept and outcome.item.solution == CLEAN and noted["sample"] == 1 and noted["tries"] == 2
    assert noted["faults"] == {"guidelines in the solution": 1}


def test_a_reader_who_quotes_the_guidelines_may_be_quoted():
    prompt = f"Somebody told me: {GUIDELINES} Is that so?"
    assert decide(lambda *_: answer(f"You were told: {GUIDELINES}"), prompt=prompt).kept


def test_a_thought_may_speak_of_the_guidelines_unless_that_is_screened():
    said = answer(CLEAN, thought="The guidelines say that I should not.")
    assert decide(lambda *_: said).kept
    assert decide(lambda *_: said, screen_thought=True).reason == "instructions mentioned in the thought"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (CLEAN, "not one think block"),
        (Completion(answer(CLEAN), 9, "length"), "cut off"),
        ("<think>a</think>", "empty solution"),
    ],
)
def test_a_response_of_another_form_is_no_answer(said, reason):
    assert decide(lambda *_: said).reason == reason


def test_a_teacher_who_does_not_answer_sets_the_item_aside_and_the_rest_goes_on():
    def teacher(prompt, _):
        if "busy" in prompt:
            return UserError("the endpoint answers 429.")
        return Completion("", 0, "refused") if "bomb" in prompt else answer(CLEAN)

    made, _ = make_stage(teacher)
    outcomes = made([make_item(prompt, id=prompt, domain="safety") for prompt in ("busy", "bomb", "fine")])
    assert [(o.reason, o.failed) for o in outcomes] == [
        ("the teacher did not answer", True), ("the server of the teacher refused", True), ("", False),
    ]  # fmt: skip


def test_items_of_other_domains_pass_untouched_and_sources_can_be_named():
    made, model = make_stage(lambda *_: answer(CLEAN), sources=("red_team",))
    items = [
        make_item("a", id="a", domain="math"),
        make_item("b", id="b", source="red_team"),
        make_item("c", id="c", domain="safety"),
    ]
    outcomes = made(items)
    assert outcomes[0].item is items[0] and {prompt for prompt, _ in model.asked} == {"b", "c"}
    assert [outcome.item.domain for outcome in outcomes] == ["math", "safety", "safety"]


def test_a_refusal_and_a_disclaimer_are_kept_and_labelled():
    assert decide(lambda *_: answer(CLEAN)).item.meta["safety"]["labels"] == ["refusal", "disclaimer"]


@pytest.mark.parametrize(
    ("solution", "labels"),
    [
        ("I can\u2019t help with that.", ["refusal"]),
        ("I cannot provide instructions for this.", ["refusal"]),
        ("I'm unable to assist you here.", ["refusal"]),
        ("I am not able to write such a text.", ["refusal"]),
        ("I'm sorry, but I won't.", ["refusal"]),
        ("I must respectfully decline.", ["refusal"]),
        ("I'd rather not guess.", ["refusal"]),
        ("I am not a licensed attorney, but here is the law.", ["disclaimer"]),
        ("This is not medical advice.", ["disclaimer"]),
        ("Please consult with a qualified doctor.", ["disclaimer"]),
        ("If it gets worse, call emergency services.", ["disclaimer"]),
        ("I cannot recommend this book enough.", []),
        ("We must help them.", []),
        ("You can do that.", []),
        ("The doctor is in.", []),
        ("Two and two cannot give five.", []),
    ],
)
def test_refusals_and_disclaimers_are_recognised(solution, labels):
    assert safety_labels(solution) == labels


@pytest.mark.parametrize(
    "wrong",
    [{"teacher": ""}, {"guidelines": ""}, {"guidelines_file": "also.txt"}, {"samples": 0}, {"thought_words": 0}],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError):
        SafetySettings(**{"teacher": "t", "guidelines": GUIDELINES, **wrong})
