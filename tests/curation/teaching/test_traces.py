import collections

import pytest

from phi4r.curation.asking.generators import GeneratorSettings, open_asker
from phi4r.curation.stage import ItemStage
from phi4r.curation.teaching.trace_screens import ScreenSettings
from phi4r.curation.teaching.traces import LevelSettings, TracesSettings, TracesStage, expanded
from phi4r.errors import UserError
from phi4r.sampling.endpoint import EndpointSettings
from phi4r.sampling.generator import Completion
from phi4r.settings import build
from phi4r.verifiers.pool import VerifierPool
from tests.curation.speaking import make_item, says, speaker
from tests.sampling.chat_server import answer, chat_server

MEDIUM, HIGH = LevelSettings("medium", "m", samples=2), LevelSettings("high", "h", samples=2)


@pytest.fixture(scope="module")
def pool():
    with VerifierPool(num_workers=1) as pool:
        yield pool


def trace(value, *, thought="Add them.", words=0) -> str:
    return f"<think>{thought}{' So.' * words}</think>It is \\boxed{{{value}}}."


def stage(pool, *teachers, levels=None, **settings) -> tuple[TracesStage, list]:
    """A stage with a teacher for each level, and the models behind them."""
    levels = levels or tuple(LevelSettings(f"l{n}", f"t{n}", samples=4) for n in range(len(teachers)))
    models = {level.teacher: speaker(says, name=level.teacher) for level, says in zip(levels, teachers, strict=True)}
    askers = {name: ask for name, (_, ask) in models.items()}
    return TracesStage(TracesSettings(levels, **settings), askers, pool=pool), [model for model, _ in models.values()]


def teach(item, pool, *teachers, **settings):
    (outcome,) = stage(pool, *teachers, **settings)[0]([item])
    return outcome


def test_it_is_a_stage(pool):
    assert isinstance(stage(pool, says())[0], ItemStage)


def test_the_first_right_trace_is_taken_and_its_making_noted(pool):
    outcome = teach(make_item(answer="2"), pool, says(trace(3), trace("4/2", thought="Half."), trace(2), "none"))
    assert outcome.kept and (outcome.item.thought, outcome.item.solution) == ("Half.", r"It is \boxed{4/2}.")
    noted = outcome.item.meta["traces"]
    assert (noted["tries"], noted["share_correct"], noted["sample"]) == (4, 0.5, 1)
    assert noted["faults"] == {"wrong answer": 1, "not one think block": 1} and noted["others"] == []
    assert (noted["effort"], noted["teacher"], noted["identity"]) == ("l0", "t0", {"model": "t0", "seed": 0})
    assert noted["num_tokens"] == 3, "the model of the test counts words"
    assert outcome.item.trace().messages()[1]["content"] == r"<think>Half.</think>It is \boxed{4/2}."


@pytest.mark.parametrize(
    ("select", "sample", "others"), [("first", 1, []), ("shortest", 3, []), ("best", 3, []), ("all", 1, [2, 3])]
)
def test_a_trace_is_selected_among_the_right_ones(pool, select, sample, others):
    teacher = says(trace(9), trace(2, words=5), trace(2, words=7), trace(2, words=3))
    noted = teach(make_item(answer="2"), pool, teacher, select=select).item.meta["traces"]
    assert noted["sample"] == sample and [other["sample"] for other in noted["others"]] == others


def test_the_best_is_a_right_one_where_wrong_ones_may_pass(pool):
    teacher = says(trace(9), trace(2, words=5), trace(9), trace(2, words=3))
    outcome = teach(make_item(answer="2"), pool, teacher, select="best", require_correct=False)
    assert outcome.item.meta["traces"]["sample"] == 3 and outcome.item.meta["traces"]["is_correct"]
    outcome = teach(make_item(answer="2"), pool, lambda *_: trace(9), require_correct=False)
    assert outcome.kept and outcome.item.meta["traces"]["is_correct"] is False


def test_all_right_traces_become_rows_with_ids_of_their_own(pool):
    teacher = says(trace(9), trace(2, thought="a"), trace(2, thought="b"), trace(2, thought="c"))
    item = teach(make_item(id="x", answer="2"), pool, teacher, select="all").item
    rows = expanded(item)
    assert [(row.id, row.thought, row.meta["traces"]["sample"]) for row in rows] == [
        ("x", "a", 1),
        ("x-1", "b", 2),
        ("x-2", "c", 3),
    ]
    assert all(row.prompt == item.prompt and "others" not in row.meta["traces"] for row in rows)
    assert all("thought" not in row.meta["traces"] for row in rows)
    assert expanded(make_item()) == [make_item()]


def test_a_higher_effort_is_asked_only_where_the_lower_gave_nothing(pool):
    made, (medium, high) = stage(
        pool,
        lambda prompt, _: trace(2 if "easy" in prompt else 3),
        lambda prompt, _: trace(2 if "hard" in prompt else 3),
        levels=(MEDIUM, HIGH),
    )
    items = [make_item(prompt, id=prompt, answer="2") for prompt in ("easy", "hard", "hopeless")]
    outcomes = made(items)
    assert [outcome.reason for outcome in outcomes] == ["", "", "wrong answer"]
    assert [outcome.item.meta["traces"]["tries"] for outcome in outcomes] == [2, 4, 4]
    assert [outcome.item.meta["traces"].get("effort") for outcome in outcomes] == ["medium", "high", None]
    assert len(medium.asked) == 6 and {prompt.split("\n")[0] for prompt, _ in high.asked} == {"hard", "hopeless"}


def test_all_levels_can_be_asked(pool):
    made, (medium, high) = stage(
        pool,
        lambda *_: trace(2, words=4),
        lambda *_: trace(2),
        levels=(MEDIUM, HIGH),
        escalate=False,
        select="shortest",
    )
    (outcome,) = made([make_item(answer="2")])
    assert outcome.item.meta["traces"]["effort"] == "high" and len(medium.asked) == len(high.asked) == 2


def test_a_level_can_ask_for_its_effort_in_words(pool):
    level = LevelSettings("high", "h", samples=1, instruction="Take all the time you need.")
    made, (model,) = stage(pool, lambda *_: trace(2), levels=(level,), instruction="In a box.")
    made([make_item("1 + 1?", answer="2")])
    assert model.conversations == [
        [
            {"role": "system", "content": "Take all the time you need."},
            {"role": "user", "content": "1 + 1?\n\nIn a box."},
        ]
    ]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (trace(3), "wrong answer"),
        ("<think>a</think>I do not know.", "no answer in the solution"),
        ("<think>It is \\boxed{2}.</think>As I found.", "no answer in the solution"),
        ("It is \\boxed{2}.", "not one think block"),
        ("<think>a</think>", "empty solution"),
        (Completion(trace(2), 5, "length"), "cut off"),
        (Completion("", 0, "refused"), "refused by the server"),
        (Completion(trace(2), 50_000, "stop"), "too long"),
    ],
)
def test_an_item_without_a_trace_is_dropped_for_the_commonest_fault(pool, said, reason):
    outcome = teach(make_item(answer="2"), pool, lambda *_: said)
    assert outcome.reason == reason and not outcome.failed and outcome.item.solution == ""
    assert outcome.item.meta["traces"]["faults"] == {reason: 4}


def test_a_teacher_who_does_not_answer_sets_the_item_aside(pool):
    teacher = lambda prompt, _: UserError("the endpoint answers 429.") if "busy" in prompt else trace(2)  # noqa: E731
    made, (_, high) = stage(pool, teacher, lambda *_: trace(2), levels=(MEDIUM, HIGH))
    outcomes = made([make_item(prompt, id=prompt, answer="2") for prompt in ("busy", "fine")])
    assert [(o.reason, o.failed) for o in outcomes] == [("the teacher did not answer", True), ("", False)]
    assert not high.asked, "a failure is no reason for a higher effort"


def test_without_an_answer_a_trace_is_screened_and_not_judged(pool):
    made, (model,) = stage(pool, says("<think>a", "<think>b</think>An essay.", "", ""))
    (outcome,) = made([make_item("Write an essay.")])
    noted = outcome.item.meta["traces"]
    assert outcome.kept and outcome.item.solution == "An essay." and noted["share_correct"] is None
    assert noted["is_correct"] is None and model.asked[0] == ("Write an essay.", 0), "there is nothing to put in a box"


def test_what_has_a_trace_or_is_safety_data_passes_untouched(pool):
    items = [make_item(id="a", thought="t", solution="s"), make_item(id="b", domain="safety")]
    outcomes = stage(pool, says())[0](items)
    assert all(outcome.item is item for outcome, item in zip(outcomes, items, strict=True))


def test_an_answer_of_a_procedural_problem_is_judged_by_its_verifier(pool):
    teacher = says("<think>a</think>The statement is not true.", "<think>b</think>true", "", "")
    outcome = teach(
        make_item(answer="true"), pool, teacher, answers="phi4r.verifiers.boolean:BooleanVerifier",
        screens=ScreenSettings(max_tokens=9),
    )  # fmt: skip
    assert outcome.item.solution == "true" and outcome.item.meta["traces"]["share_correct"] == 0.25


def test_teachers_who_hold_their_thought_apart_and_who_write_it_give_the_same_trace(pool, tmp_path):
    def script(request):
        if request.body["reasoning_effort"] == "medium":
            return answer("\n\nIt is \\boxed{2}.", num_tokens=7, reasoning_content="Add them.\n")
        return answer("<think>\nAdd them.\n</think>\n\nIt is \\boxed{2}.", num_tokens=7)

    with chat_server(script) as server:
        askers = {}
        for name, effort in (("m", "medium"), ("h", "high")):
            endpoint = EndpointSettings(server.url, "teacher", extra={"reasoning_effort": effort}, max_retries=0)
            askers[name] = open_asker(GeneratorSettings("endpoint", endpoint=endpoint, thinking=True), tmp_path)
        items = [make_item(answer="2")]
        (by_field,) = TracesStage(TracesSettings((MEDIUM,)), askers, pool=pool)(items)
        (inline,) = TracesStage(TracesSettings((HIGH,)), askers, pool=pool)(items)
    assert (by_field.item.thought, by_field.item.solution) == (inline.item.thought, inline.item.solution)
    assert (inline.item.thought, inline.item.solution) == ("Add them.", r"It is \boxed{2}.")
    noted = by_field.item.meta["traces"]
    assert noted["num_tokens"] == 7 and noted["identity"]["extra"] == {"reasoning_effort": "medium"}
    efforts = collections.Counter(request.body["reasoning_effort"] for request in server.requests)
    assert efforts == {"medium": 2, "high": 2}


def test_a_config_becomes_settings():
    section = {"levels": [{"name": "medium", "teacher": "t"}], "select": "all", "screens": {"language": "en"}}
    settings = build(TracesSettings, section, where="traces")
    assert settings.levels == (LevelSettings("medium", "t"),) and settings.screens.language == "en"


@pytest.mark.parametrize("wrong", [{"levels": ()}, {"levels": (MEDIUM, MEDIUM)}, {"answers": "x"}, {"batch_size": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError):
        TracesSettings(**{"levels": (MEDIUM,), **wrong})
    with pytest.raises(UserError):
        LevelSettings("medium", "", samples=1)


def test_a_level_whose_teacher_there_is_not_is_refused(pool):
    asker = speaker(says())[1]
    with pytest.raises(
        UserError, match=r"the stage traces asks the generator 'h', which there is not \(there are: m\)"
    ):
        TracesStage(TracesSettings((MEDIUM, HIGH)), {"m": asker}, pool=pool)
