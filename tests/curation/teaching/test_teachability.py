import collections
import dataclasses
import json
import random

import pytest

from phi4r.curation.asking.ask_cache import AnswerCache
from phi4r.curation.asking.generators import GeneratorSettings, open_asker
from phi4r.curation.item import Item
from phi4r.curation.stage import ItemStage
from phi4r.curation.teaching.teachability import TeachabilitySettings, TeachabilityStage, num_steps
from phi4r.errors import UserError
from phi4r.sampling.generator import Completion
from phi4r.settings import build
from phi4r.verifiers.pool import VerifierPool
from tests.curation.speaking import make_item, says, speaker

RIGHT = "Two and two are four.\nSo it is \\boxed{4}."
WRONG = "Guess.\nIt is \\boxed{5}."


@pytest.fixture(scope="module")
def pool():
    with VerifierPool(num_workers=1) as pool:
        yield pool


def stage(pool, strong, weak, *, thinking=False, cache=None, **settings) -> TeachabilityStage:
    """A stage whose weak models are the functions `weak`, by name or the only one."""
    weak = weak if isinstance(weak, dict) else {"weak": weak}
    askers = {"strong": speaker(strong, thinking=thinking, cache=cache, name="strong")[1]}
    askers |= {name: speaker(model, cache=cache, name=name)[1] for name, model in weak.items()}
    values = {"strong_samples": 4, "weak_samples": 4, "low": 0.25, "high": 0.75, **settings}
    return TeachabilityStage(TeachabilitySettings("strong", tuple(weak), **values), askers, pool=pool)


def judge(item, *arguments, **settings):
    (outcome,) = stage(*arguments, **settings)([item])
    return outcome


def test_it_is_a_stage(pool):
    assert isinstance(stage(pool, says(), says()), ItemStage)
    assert stage(pool, says(), says())([]) == []


# Models of known accuracy: each answer is right with the accuracy that the prompt names. By Hoeffding's inequality the
# agreement over k = 200 samples is off by 0.15 or more with a chance of at most 2 exp(-2 * 200 * 0.15^2) = 2.5e-4. The
# band is [0.25, 0.75] and every accuracy is at least 0.15 from its ends, so that any of the 140 prompts lands on the
# wrong side has a chance below 140 * 2.5e-4 = 0.035; the seed is fixed, so a right program always passes. A model of
# accuracy 0.9 has fewer than half of 40 samples right with a chance below exp(-2 * 40 * 0.4^2) = 3e-6.
ACCURACIES = (0.05, 0.1, 0.4, 0.5, 0.6, 0.9, 0.95)


def model(accuracy_of, seed):
    def answer(prompt, sample):
        number, accuracy = prompt.split("\n")[0].split()
        draw = random.Random(f"{seed} {number} {sample}")
        right = draw.random() < accuracy_of(float(accuracy))
        value = int(number) if right else int(number) + draw.randint(1, 9)
        return f"First we think.\nThen we have \\boxed{{{value}}}."

    return answer


def test_the_band_of_models_of_known_accuracy_is_recovered(pool):
    items = [Item(f"{a} {n}", f"{n} {a}") for a in ACCURACIES for n in range(100, 120)]
    judged = stage(
        pool,
        model(lambda _: 0.9, "strong"),
        model(lambda accuracy: accuracy, "weak"),
        strong_samples=40,
        weak_samples=200,
    )(items)
    made = {
        a: collections.Counter(o.reason for o, item in zip(judged, items, strict=True) if item.id.startswith(f"{a} "))
        for a in ACCURACIES
    }
    assert made == {a: {"too hard": 20} if a < 0.25 else {"too easy": 20} if a > 0.75 else {"": 20} for a in ACCURACIES}
    for outcome, item in zip(judged, items, strict=True):
        number, accuracy = item.prompt.split()
        assert abs(outcome.item.meta["teachability"]["agreement"] - float(accuracy)) < 0.15
        assert outcome.item.answer == (number if outcome.kept else ""), "the plurality is the answer of what is kept"


def test_several_weak_models_count_by_their_mean(pool):
    weak = {"a": says(*[RIGHT] * 3, WRONG), "b": says(RIGHT, *[WRONG] * 3), "c": says(*[WRONG] * 4)}
    outcome = judge(make_item(), pool, lambda *_: RIGHT, weak)
    noted = outcome.item.meta["teachability"]
    assert outcome.kept and noted["of_each"] == {"a": 0.75, "b": 0.25, "c": 0.0}
    assert noted["agreement"] == pytest.approx(1 / 3) and noted["gap"] == pytest.approx(2 / 3)
    assert noted["strong_agreement"] == 1.0 and noted["plurality"] == "4" and noted["plurality_share"] == 1.0


def test_the_plurality_is_up_to_equivalence(pool):
    strong = says(*(f"So.\nThus \\boxed{{{answer}}}" for answer in ("3", "0.5", "3", "1/2", r"\frac{2}{4}")))
    weak = says(r"\boxed{2}", r"\boxed{3}", r"\boxed{\frac12}", r"\boxed{.5}")
    noted = judge(make_item(), pool, strong, weak, strong_samples=5).item.meta["teachability"]
    assert noted["plurality"] == "0.5" and noted["plurality_share"] == 0.6
    assert noted["agreement"] == 0.5, "1/2 and .5 agree with it"


def test_an_item_on_the_edge_of_the_band_is_in_it(pool):
    for num_right, reason in ((0, "too hard"), (1, ""), (3, ""), (4, "too easy")):
        weak = says(*[RIGHT] * num_right, *[WRONG] * (4 - num_right))
        assert judge(make_item(), pool, lambda *_: RIGHT, weak).reason == reason


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ("4 4 5 6", ""),
        ("4 5 6 7", "the strong model disagrees with itself"),
        ("4 4 5 5", "the strong model disagrees with itself"),
        ("- - - -", "no answer of the strong model"),
    ],
)
def test_the_strong_model_must_agree_with_itself(pool, answers, reason):
    strong = says(*("I give up." if a == "-" else f"Well.\nIt is \\boxed{{{a}}}." for a in answers.split()))
    weak, ask = speaker(says(RIGHT, WRONG, RIGHT, WRONG))
    askers = {"strong": speaker(strong)[1], "weak": ask}
    settings = TeachabilitySettings("strong", ("weak",), strong_samples=4, weak_samples=4)
    (outcome,) = TeachabilityStage(settings, askers, pool=pool)([make_item()])
    assert outcome.reason == reason and not outcome.failed
    assert len(weak.asked) == (0 if reason else 4), "a weak model is not asked in vain"


def test_a_gold_answer_is_noted_and_stays(pool):
    weak = says(RIGHT, RIGHT, WRONG, WRONG)
    outcome = judge(make_item(answer="5"), pool, lambda *_: RIGHT, weak)
    noted = outcome.item.meta["teachability"]
    assert outcome.kept and outcome.item.answer == "5"
    assert noted["gold_agrees"] is False and noted["truth"] == "4" and noted["by"] == "plurality"


def test_a_gold_answer_can_be_the_truth(pool):
    weak = says(RIGHT, RIGHT, WRONG, WRONG)
    outcome = judge(make_item(answer="8/2"), pool, says(RIGHT, RIGHT, RIGHT, WRONG), weak, use_gold=True)
    noted = outcome.item.meta["teachability"]
    assert outcome.kept and outcome.item.answer == "8/2" and noted["by"] == "gold" and noted["gold_agrees"] is True
    assert (noted["strong_agreement"], noted["agreement"]) == (0.75, 0.5)
    outcome = judge(make_item(answer="6"), pool, lambda *_: RIGHT, weak, use_gold=True)
    assert outcome.reason == "the strong model disagrees with the gold answer"
    assert judge(make_item(), pool, lambda *_: RIGHT, weak, use_gold=True).item.answer == "4"


def test_choices_agree_by_their_letters(pool):
    reference = json.dumps({"letter": "B", "options": ["red", "blue"]})
    strong = lambda *_: "It is no fruit.\nThe answer is B."  # noqa: E731
    weak = says("The answer is blue.", "(B)", "A", "no idea")
    outcome = judge(make_item(answer=reference), pool, strong, weak, answers="choice")
    noted = outcome.item.meta["teachability"]
    assert outcome.kept and noted["agreement"] == 0.5 and noted["gold_agrees"] is True and noted["truth"] == "B"


def test_a_gap_between_weak_and_strong_can_be_asked_for(pool):
    weak = says(RIGHT, RIGHT, RIGHT, WRONG)
    assert judge(make_item(), pool, lambda *_: RIGHT, weak, min_gap=0.25).kept
    assert judge(make_item(), pool, lambda *_: RIGHT, weak, min_gap=0.3).reason == "no gap between weak and strong"


def test_one_step_is_too_few(pool):
    weak = says(RIGHT, RIGHT, WRONG, WRONG)
    outcome = judge(make_item(), pool, lambda *_: r"\boxed{4}", weak)
    assert outcome.reason == "too few steps" and outcome.item.meta["teachability"]["steps"] == 1
    assert judge(make_item(), pool, lambda *_: r"\boxed{4}", weak, min_steps=0).kept


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", 0),
        (r"\boxed{4}", 1),
        ("We add 2. Then we divide by 3.5 and get $4$.\n\n---\n\nSo it is 4.", 3),
        ("<think>One. Two. Three.</think>Only this.", 1),
        ("<think>One. Two. Three.", 3),
    ],
)
def test_steps_are_lines_and_sentences(text, steps):
    assert num_steps(text) == steps


def test_an_unfinished_thought_has_no_answer(pool):
    strong = says(f"<think>x</think>{RIGHT}", f"<think>x</think>{RIGHT}", "<think>\\boxed{5}", "<think>\\boxed{5}")
    outcome = judge(make_item(), pool, strong, says(RIGHT, WRONG, WRONG, WRONG), thinking=True)
    assert outcome.kept and outcome.item.meta["teachability"]["strong_agreement"] == 0.5


def test_the_instruction_follows_the_prompt(pool):
    strong, ask = speaker(lambda *_: RIGHT)
    settings = TeachabilitySettings("strong", ("strong",), instruction="Be brief.")
    TeachabilityStage(settings, {"strong": ask}, pool=pool)([make_item("2 + 2?")])
    assert {prompt for prompt, _ in strong.asked} == {"2 + 2?\n\nBe brief."}


def test_gold_solutions_that_were_recorded_are_a_strong_model(pool, shared_data, tmp_path):
    rows = [json.loads(line) for line in (shared_data / "math500" / "math500_test.jsonl").read_text().splitlines()[:40]]
    recorded = [json.dumps({"prompt": row["problem"], "completion": row["solution"]}) for row in rows]
    (tmp_path / "gold.jsonl").write_text("\n".join(recorded))
    askers = {"gold": open_asker(GeneratorSettings("recorded", path=str(tmp_path / "gold.jsonl")), tmp_path)}
    answers = {row["problem"]: row["answer"] for row in rows}

    def weak(prompt, sample):
        return f"\\boxed{{{answers[prompt.rpartition(chr(10) * 2)[0]]}}}" if sample else "I do not know."

    askers["weak"] = speaker(weak)[1]
    settings = TeachabilitySettings("gold", ("weak",), strong_samples=1, weak_samples=2, min_steps=0)
    outcomes = TeachabilityStage(settings, askers, pool=pool)([make_item(prompt) for prompt in answers])
    # The proxy truth is the answer that the data set itself names: the one sample in two that says it agrees.
    assert all(outcome.item.meta["teachability"]["agreement"] == 0.5 for outcome in outcomes)
    (lost,) = TeachabilityStage(settings, askers, pool=pool)([make_item("What is 2 + 2?")])
    assert lost.failed and lost.reason == "the strong model did not answer"


def test_what_fails_is_set_aside_and_the_rest_goes_on(pool):
    def broken(prompt, sample):
        if "429" in prompt:
            return UserError("the endpoint answers 429: slow down.")
        return Completion("", 0, "refused") if "bomb" in prompt else RIGHT if sample < 2 else WRONG

    items = [make_item(prompt, id=prompt) for prompt in ("fine", "429", "bomb", "fine too")]
    outcomes = stage(pool, lambda *_: RIGHT, broken)(items)
    assert [outcome.reason for outcome in outcomes] == [
        "", "a weak model did not answer", "the server of a weak model refused", "",
    ]  # fmt: skip
    assert [outcome.failed for outcome in outcomes] == [False, True, True, False]
    assert "429: slow down" in outcomes[1].item.meta["teachability"]["said"]
    outcomes = stage(pool, broken, lambda *_: RIGHT)(items)
    assert [o.reason for o in outcomes][1:3] == [
        "the strong model did not answer",
        "the server of the strong model refused",
    ]


def test_outcomes_do_not_depend_on_the_batch_and_a_second_run_asks_nothing(pool, tmp_path):
    items = [Item(f"{a} {n}", f"{n} {a}") for a in (0.1, 0.5, 0.9) for n in range(5)]
    strong, weak = model(lambda _: 0.9, "s"), model(lambda accuracy: accuracy, "w")
    first = stage(pool, strong, weak, cache=AnswerCache(tmp_path), strong_samples=8)(items)
    silent = stage(pool, says(), says(), cache=AnswerCache(tmp_path), strong_samples=8)
    assert [silent([item])[0] for item in items] == first


def test_safety_data_pass_untouched(pool):
    item = make_item(domain="safety")
    assert judge(item, pool, says(), says()).item is item


@pytest.mark.parametrize(
    "wrong",
    [
        {"strong": ""},
        {"weak": ()},
        {"low": 0.9, "high": 0.1},
        {"weak_samples": 0},
        {"answers": "essay"},
        {"min_strong_agreement": 1.5},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError):
        build(TeachabilitySettings, {"strong": "s", "weak": ["w"], **wrong}, where="teachability")
    assert dataclasses.asdict(build(TeachabilitySettings, {"strong": "s", "weak": ["w"]}, where="teachability"))
