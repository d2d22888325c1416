import json

import pytest

from phi4r.curation.stage import ItemStage
from phi4r.curation.teaching.rewriting import (
    PROMPT,
    RewritingSettings,
    RewritingStage,
    Rewritten,
    asks_for_text,
    read_rewritten,
)
from phi4r.errors import UserError
from phi4r.verifiers.pool import VerifierPool
from tests.curation.speaking import make_item, says, speaker

# In the manner of Figure 3: what was to be proved becomes what is to be found.
PROOF = "In triangle ABC, AB = 6, BC = 8 and B is a right angle. Prove that AC is longer than BC."
NEW = "In triangle ABC, AB = 6, BC = 8 and B is a right angle. What is AC?"
REPLY = f"<task>{NEW}</task>\n<answer>10</answer>"


@pytest.fixture(scope="module")
def pool():
    with VerifierPool(num_workers=1) as pool:
        yield pool


def make_stage(pool, rewriter, solvers, **settings):
    models = {"rewriter": speaker(rewriter, name="rewriter")}
    models |= {f"s{number}": speaker(solver, name=f"s{number}") for number, solver in enumerate(solvers)}
    names = tuple(f"s{number}" for number in range(len(solvers)))
    made = RewritingStage(
        RewritingSettings("rewriter", names, **settings), {name: ask for name, (_, ask) in models.items()}, pool=pool
    )
    return made, {name: model for name, (model, _) in models.items()}


def rewrite(item, pool, rewriter, *solvers, **settings):
    made, _ = make_stage(pool, rewriter, solvers, **settings)
    (outcome,) = made([item])
    return outcome


def test_it_is_a_stage(pool):
    assert isinstance(make_stage(pool, says(), [says()])[0], ItemStage)


def test_an_open_problem_gets_a_short_answer_and_keeps_its_original(pool):
    item = make_item(PROOF, id="euclid", answer="By Pythagoras, AC is the hypotenuse, and so the longest side.\nQED")
    made, models = make_stage(
        pool, says(REPLY), [lambda *_: r"\boxed{10}", says(r"\boxed{10.0}", "12", r"\boxed{20/2}", r"\boxed{10}")]
    )
    (outcome,) = made([item])
    assert outcome.kept and (outcome.item.id, outcome.item.prompt, outcome.item.answer) == ("euclid", NEW, "10")
    noted = outcome.item.meta["rewriting"]
    assert (noted["original_id"], noted["original_prompt"]) == ("euclid", PROOF)
    assert noted["original_answer"] == item.answer
    assert noted["agreement"] == 7 / 8 and noted["of_each"] == {"s0": 1.0, "s1": 0.75}
    assert models["rewriter"].asked == [(PROMPT + PROOF, 0)]
    assert all(prompt.startswith(NEW) and "10" not in prompt for prompt, _ in models["s0"].asked), (
        "solvers see no answer"
    )


def test_an_item_with_a_short_answer_passes_untouched_and_nobody_is_asked(pool):
    items = [
        make_item(id="a", answer=r"\frac{1}{2}"),
        make_item(id="b", answer="12"),
        make_item(id="c", domain="safety"),
    ]
    made, models = make_stage(pool, says(), [says()])
    assert all(outcome.kept and outcome.item is item for outcome, item in zip(made(items), items, strict=True))
    assert not any(model.asked for model in models.values())


@pytest.mark.parametrize(
    ("unanswered", "rewritten"),
    [("by_prompt", {"proof"}), ("all", {"proof", "question"}), ("none", set())],
)
def test_which_items_without_an_answer_are_open_is_a_setting(pool, unanswered, rewritten):
    made, _ = make_stage(pool, lambda *_: REPLY, [lambda *_: r"\boxed{10}"], unanswered=unanswered)
    outcomes = made([make_item(PROOF, id="proof"), make_item("What is 3 + 4?", id="question")])
    assert {outcome.item.id for outcome in outcomes if outcome.item.answer == "10"} == rewritten


@pytest.mark.parametrize(
    ("prompt", "asks"),
    [
        ("Prove that 2 is prime.", True),
        ("Let n be odd. Show that n^2 is odd.", True),
        ("Why is the sky blue?", True),
        ("Give an example of a group.", True),
        ("Write a short story.", True),
        ("What is AC?", False),
        ("Write 5/10 in lowest terms.", False),
        ("How many digits does 7^8 have?", False),
        ("A waterproof coat costs 3 dollars. How much are two?", False),
    ],
)
def test_a_prompt_asks_for_a_text_by_its_words(prompt, asks):
    assert asks_for_text(prompt) == asks


def test_a_choice_is_a_short_answer(pool):
    item = make_item(answer=json.dumps({"letter": "B", "options": ["red", "blue"]}))
    assert rewrite(item, pool, says(), says(), answers="choice").item is item


@pytest.mark.parametrize(
    ("num_right", "reason"),
    [(4, ""), (3, ""), (2, "solvers disagree with the answer"), (0, "solvers disagree with the answer")],
)
def test_solvers_must_come_to_the_same_answer(pool, num_right, reason):
    solver = says(*[r"\boxed{10}"] * num_right, *[r"\boxed{14}"] * (4 - num_right))
    outcome = rewrite(make_item(PROOF), pool, says(REPLY), solver, samples=4, min_agreement=0.75)
    assert outcome.reason == reason and outcome.item.meta["rewriting"]["agreement"] == num_right / 4


def test_solvers_who_agree_on_another_answer_do_not_help(pool):
    assert (
        rewrite(make_item(PROOF), pool, says(REPLY), lambda *_: r"\boxed{14}").reason
        == "solvers disagree with the answer"
    )


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("it is longer than BC", "new answer cannot be parsed"), ("1" * 65, "new answer too long")],
)
def test_a_new_answer_must_be_one_that_can_be_checked(pool, answer, reason):
    reply = f"<task>{NEW}</task><answer>{answer}</answer>"
    made, models = make_stage(pool, says(reply), [says()])
    (outcome,) = made([make_item(PROOF)])
    assert outcome.reason == reason and not outcome.failed and not models["s0"].asked


def test_a_task_that_cannot_be_rewritten_is_dropped(pool):
    outcome = rewrite(make_item(PROOF), pool, says("<task></task><answer></answer>"), says())
    assert outcome.reason == "cannot be rewritten" and outcome.item.prompt == PROOF


def test_a_reply_of_a_wrong_form_is_asked_for_again_and_then_set_aside(pool):
    made, models = make_stage(pool, says("Sure!", REPLY), [lambda *_: r"\boxed{10}"])
    assert made([make_item(PROOF)])[0].kept and [sample for _, sample in models["rewriter"].asked] == [0, 1]
    outcome = rewrite(make_item(PROOF), pool, says("Sure!", "Well.", "No."), says())
    assert (outcome.reason, outcome.failed) == ("rewriting of a wrong form", True)
    assert outcome.item.meta["rewriting"]["said"] == "No."


def test_a_model_that_does_not_answer_is_no_reason_to_drop_an_item(pool):
    def broken(*_):
        return UserError("the endpoint answers 429.")

    outcome = rewrite(make_item(PROOF), pool, broken, says())
    assert (outcome.reason, outcome.failed) == ("the rewriter did not answer", True)
    outcome = rewrite(make_item(PROOF), pool, says(REPLY), broken)
    assert (outcome.reason, outcome.failed) == ("a solver did not answer", True)


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (REPLY, Rewritten(NEW, "10")),
        (f"<think><task>a</task><answer>b</answer></think>Here:\n{REPLY}\nDone.", Rewritten(NEW, "10")),
        ("<task> x\ny </task>\n\n<answer> $5$ </answer>", Rewritten("x\ny", "5")),
        ("<task></task><answer></answer>", Rewritten("", "")),
        ("<task>a</task><answer></answer>", None),
        ("<task></task><answer>1</answer>", None),
        (f"{REPLY}{REPLY}", None),
        ("<task>a<answer>1</answer>", None),
        ("<answer>1</answer><task>a</task>", None),
        ("<task>a <task>b</task><answer>1</answer>", None),
    ],
)
def test_one_task_with_one_answer_is_read(reply, found):
    assert read_rewritten(reply) == found


@pytest.mark.parametrize(
    "wrong", [{"rewriter": ""}, {"solvers": ()}, {"min_agreement": 0.0}, {"samples": 0}, {"answers": "x"}]
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError):
        RewritingSettings(**{"rewriter": "r", "solvers": ("s",), **wrong})
