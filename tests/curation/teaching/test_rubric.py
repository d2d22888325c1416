import json

import pytest

from phi4r.curation.stage import ItemStage
from phi4r.curation.teaching.rubric import PROMPT, Grade, RubricSettings, RubricStage, graders_report, read_grade
from phi4r.errors import UserError
from phi4r.sampling.generator import Completion
from tests.curation.speaking import make_item, says, speaker


def reply(steps=4, complexity=3, **more):
    return json.dumps({"reason": "r", "num_steps": steps, "complexity": complexity, **more})


def stage(*graders, **settings) -> RubricStage:
    askers = {f"g{number}": speaker(grader, name=f"g{number}")[1] for number, grader in enumerate(graders)}
    return RubricStage(RubricSettings(tuple(askers), **settings), askers)


def grade(*graders, **settings):
    (outcome,) = stage(*graders, **settings)([make_item()])
    return outcome


def test_it_is_a_stage():
    assert isinstance(stage(says()), ItemStage)


@pytest.mark.parametrize(
    "text",
    [
        reply(),
        f"  {reply()}\n",
        f"```json\n{reply()}\n```",
        f"```\n{reply()}\n```",
        f'<think>Perhaps {{"num_steps": 9}}?</think>\n{reply()}',
    ],
)
def test_a_grade_of_the_right_form_is_read(text):
    assert read_grade(text) == Grade(4, 3, "r")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4 steps",
        f"Here you are: {reply()}",
        f"{reply()}\n{reply()}",
        "[4, 3]",
        '{"num_steps": 4, "complexity": 3}',
        reply(score=1),
        reply(steps="4"),
        reply(steps=4.0),
        reply(steps=True),
        reply(steps=0),
        reply(steps=101),
        reply(complexity=6),
        reply(complexity=None),
        reply(reason=1),
        reply(steps=float("nan")),
        f"<think>{reply()}",
        "[" * 100_000,
    ],
)
def test_a_grade_of_any_other_form_is_not(text):
    assert read_grade(text) is None


def test_the_example_of_the_prompt_has_the_form():
    example = next(line for line in PROMPT.splitlines() if line.startswith("{"))
    assert read_grade(example) == Grade(4, 2, "one or two sentences")


def test_fresh_samples_are_asked_until_one_has_the_form():
    model, ask = speaker(says("hm", "{}", reply(7, 4)))
    (outcome,) = RubricStage(RubricSettings(("g",)), {"g": ask})([make_item("Prove it.")])
    assert outcome.kept and outcome.item.meta["rubric"]["num_steps"] == 7
    assert model.asked == [(PROMPT + "Prove it.", sample) for sample in (0, 1, 2)]


def test_each_of_several_grades_has_fresh_samples_of_its_own():
    model, ask = speaker(says(reply(3), "hm", "?", reply(5)))
    (outcome,) = RubricStage(RubricSettings(("g",), samples=2, max_attempts=2), {"g": ask})([make_item()])
    # Grade 0 is sample 0; grade 1 is sample 1, which has no form, and then sample 1 + 2 = 3; sample 2 is not needed.
    assert [sample for _, sample in model.asked] == [0, 1, 3]
    assert [one["num_steps"] for one in outcome.item.meta["rubric"]["grades"]] == [3, 5]


def test_an_item_without_a_grade_is_set_aside_and_the_rest_goes_on():
    def grader(prompt, sample):
        if prompt.endswith("429"):
            return UserError("the endpoint answers 429: slow down.")
        return Completion("", 0, "refused") if prompt.endswith("bomb") else "hm" if prompt.endswith("hm") else reply()

    model, ask = speaker(grader)
    items = [make_item(prompt, id=prompt) for prompt in ("fine", "429", "bomb", "hm")]
    outcomes = RubricStage(RubricSettings(("g",)), {"g": ask})(items)
    assert [(o.reason, o.failed) for o in outcomes] == [
        ("", False),
        ("a grader did not answer", True),
        ("the server of a grader refused", True),
        ("grade of a wrong form", True),
    ]
    assert outcomes[3].item.meta["rubric"]["said"] == "hm"
    assert len([1 for prompt, _ in model.asked if prompt.endswith("hm")]) == 3


@pytest.mark.parametrize(
    ("grades", "reason"),
    [
        ([(3, 2), (3, 2)], ""),
        ([(2, 2), (4, 2)], ""),
        ([(2, 2), (3, 2)], "too few steps"),
        ([(9, 1), (9, 2)], "too simple"),
        ([(9, 1), (9, 5)], "the graders disagree"),
    ],
)
def test_means_of_the_grades_are_held_against_the_thresholds(grades, reason):
    graders = [says(reply(*one)) for one in grades]
    assert grade(*graders, min_steps=3.0, min_complexity=2.0, max_difference=3.0).reason == reason


def test_the_agreement_of_the_graders_is_noted():
    noted = grade(says(reply(3, 2)), says(reply(5, 2)), says(reply(9, 4))).item.meta["rubric"]
    # Steps 3, 5, 9: mean 17/3, differences 2, 6, 4. Complexity 2, 2, 4: differences 0, 2, 2, one pair of three equal.
    assert noted["num_steps"] == pytest.approx(17 / 3) and noted["steps_difference"] == 4.0
    assert noted["complexity_difference"] == pytest.approx(4 / 3) and noted["complexity_exact"] == pytest.approx(1 / 3)
    assert [one["grader"] for one in noted["grades"]] == ["g0", "g1", "g2"]


def test_the_report_is_over_all_graded_items():
    graders = [lambda prompt, _: reply(int(prompt[-1]), 2), lambda prompt, _: reply(2 * int(prompt[-1]) - 1, 2)]
    outcomes = stage(*graders)([make_item(f"task {number}", id=str(number)) for number in (1, 2, 3)])
    report = graders_report([outcome.item for outcome in outcomes] + [make_item()])
    # Steps (1, 1), (2, 3), (3, 5): differences 0, 1, 2; one of three equal. Observed (0 + 2 + 8) / 6 = 5/3; the values
    # 1, 1, 2, 3, 3, 5 have mean 2.5 and squares about it 2.25 * 2 + 0.25 * 3 + 6.25 = 11.5: expected is
    # 2 * 6 * 11.5 / (6 * 5) = 4.6.
    assert report["items"] == 3 and report["num_steps"]["mean_difference"] == 1.0
    assert report["num_steps"]["exact_share"] == pytest.approx(1 / 3)
    assert report["num_steps"]["alpha"] == pytest.approx(1 - (5 / 3) / 4.6)
    assert report["complexity"] == {"mean_difference": 0.0, "exact_share": 1.0, "alpha": None}
    assert graders_report([make_item()]) == {"items": 0}


def test_safety_data_pass_untouched():
    item = make_item(domain="safety")
    assert stage(says())([item])[0].item is item


@pytest.mark.parametrize("wrong", [{"graders": ()}, {"samples": 0}, {"max_attempts": 0}, {"min_complexity": 6.0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError):
        RubricSettings(**{"graders": ("g",), **wrong})
