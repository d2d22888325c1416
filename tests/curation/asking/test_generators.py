import dataclasses
import json

import pytest

from phi4r.curation.asking.asking import is_answer
from phi4r.curation.asking.generators import Askers, GeneratorSettings, RecordedGenerator, open_asker
from phi4r.errors import UserError
from phi4r.evals.decoding import DecodingSettings
from phi4r.sampling import SamplerSettings
from phi4r.sampling.endpoint import EndpointSettings
from phi4r.settings import build
from tests.curation.speaking import user
from tests.evals.parrot import write_parrot
from tests.sampling.chat_server import answer, chat_server, echo, failure

ENDPOINT = EndpointSettings("http://localhost:1/v1", "m", max_retries=0)
USUAL = GeneratorSettings("endpoint", endpoint=ENDPOINT)


def recording(tmp_path, *rows):
    (tmp_path / "recorded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "recorded.jsonl"


def texts(answers):
    return [[one.text if is_answer(one) else None for one in of] for of in answers]


# Servers


def test_requests_that_fail_for_good_leave_the_others_alone(tmp_path):
    def script(request):
        if request.prompt == "busy":
            return failure(429, "slow down")
        return (200, {}, "<html>garbage</html>") if request.prompt == "garbage" else echo(request)

    with chat_server(script) as server:
        settings = dataclasses.replace(ENDPOINT, base_url=server.url, concurrency=2)
        ask = open_asker(GeneratorSettings("endpoint", endpoint=settings), tmp_path)
        asked = ask(user("a", "busy", "b", "garbage", "c"))
        assert texts(asked) == [["A"], [None], ["B"], [None], ["C"]]
        assert "429: slow down" in asked[1][0].text and "no chat completion" in asked[3][0].text
        assert dict(ask.counts) == {"asked": 3, "failed": 2, "tokens": 3, "hits": 0}
        ask(user("a", "busy", "b", "garbage", "c"))
    assert sorted(server.prompts) == ["a", "b", "busy", "busy", "c", "garbage", "garbage"]


def test_the_reasoning_of_a_server_and_its_extra_fields_pass(tmp_path):
    with chat_server(lambda request: answer("It is 4.", reasoning_content="2 + 2")) as server:
        endpoint = dataclasses.replace(ENDPOINT, base_url=server.url, extra={"reasoning_effort": "high"})
        ask = open_asker(GeneratorSettings("endpoint", endpoint=endpoint, thinking=True), tmp_path)
        assert texts(ask(user("2 + 2?"))) == [["<think>2 + 2</think>It is 4."]] and ask.thinking
    assert server.requests[0].body["reasoning_effort"] == "high"


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": dataclasses.replace(ENDPOINT, base_url="http://localhost:2/v1")},
        {"endpoint": dataclasses.replace(ENDPOINT, model="n")},
        {"endpoint": dataclasses.replace(ENDPOINT, extra={"reasoning_effort": "high"})},
        {"endpoint": dataclasses.replace(ENDPOINT, omit=("top_k",))},
        {"decoding": DecodingSettings(temperature=0.7)},
        {"decoding": DecodingSettings(max_tokens=100)},
        {"decoding": DecodingSettings(stop=("\n",))},
        {"alias": "m"},
    ],
)
def test_whatever_decides_an_answer_is_part_of_the_identity(tmp_path, change):
    changed = open_asker(dataclasses.replace(USUAL, **change), tmp_path).identity
    assert changed != open_asker(USUAL, tmp_path).identity
    json.dumps(changed)


@pytest.mark.parametrize(
    "change", [{"concurrency": 2}, {"requests_per_minute": 9}, {"timeout_s": 5.0}, {"max_retries": 1}]
)
def test_how_hard_a_server_is_asked_is_not(tmp_path, change):
    changed = dataclasses.replace(USUAL, endpoint=dataclasses.replace(ENDPOINT, **change))
    assert open_asker(changed, tmp_path).identity == open_asker(USUAL, tmp_path).identity


def test_a_server_with_an_alias_may_move(tmp_path):
    moved = dataclasses.replace(USUAL, alias="v1", endpoint=dataclasses.replace(ENDPOINT, base_url="http://other/v1"))
    assert open_asker(moved, tmp_path).identity == open_asker(dataclasses.replace(USUAL, alias="v1"), tmp_path).identity


# Recordings


def test_a_recording_says_what_it_holds_and_fails_for_what_it_lacks(tmp_path):
    path = recording(tmp_path, {"prompt": "a", "completions": ["1", "2"]}, {"prompt": "b", "completion": "3"})
    ask = open_asker(GeneratorSettings("recorded", path=str(path)), tmp_path / "cache")
    # Prompt a has two completions and no third; b has one, which it has for every sample; c is not there.
    assert texts(ask(user("a", "b", "c"), num_samples=3)) == [["1", "2", None], ["3", "3", "3"], [None] * 3]
    assert not (tmp_path / "cache").exists(), "what costs nothing is not written a second time"


def test_a_recorded_prompt_is_found_with_an_instruction_after_it(tmp_path):
    path = recording(tmp_path, {"prompt": "a\n\nb", "completion": "long"}, {"prompt": "a", "completion": "short"})
    ask = open_asker(GeneratorSettings("recorded", path=str(path)), tmp_path)
    assert texts(ask(user("a\n\nb\n\nGo on.\n\nAnd on.", "a\n\nGo on.", "a b"))) == [["long"], ["short"], [None]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no rows"),
        ('{"prompt": "a"}\n', ":1 must have 'prompt', a text, and 'completions'"),
        ('\n{"prompt": "a", "completions": [1]}\n', ":2 has a completion that is no text"),
        ("[]\n", ":1 must be a JSON object"),
    ],
)
def test_a_recording_of_another_form_is_refused_by_line(tmp_path, content, message):
    (tmp_path / "r.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        RecordedGenerator(tmp_path / "r.jsonl")


def test_a_missing_recording_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*r\.jsonl"):
        RecordedGenerator(tmp_path / "r.jsonl")


# Our own sampler


def test_a_model_folder_answers_by_our_own_sampler_once(tmp_path):
    model = write_parrot(tmp_path / "parrot", "<think> so</think>\\boxed{3}")
    settings = build(
        GeneratorSettings,
        {
            "kind": "sampler",
            "model": str(model),
            "thinking": True,
            "decoding": {"temperature": 0.0, "max_tokens": 16},
            "sampler": {"prompt_length": 32, "max_response": 16},
        },
        where="generators.weak",
    )
    ask = open_asker(settings, tmp_path / "cache")
    assert texts(ask(user("1 + 2?", "3?"))) == [["<think> so</think>\\boxed{3}"]] * 2
    assert texts(ask(user("3?"))) == [["<think> so</think>\\boxed{3}"]]
    assert ask.counts["hits"] == 1 and ask.counts["asked"] == 2
    assert {"weights", "tokenizer", "chat_template", "decoding", "dtype"} <= set(ask.identity)


# Configs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "endpoint"}, "needs the section endpoint"),
        ({"kind": "sampler", "model": "m"}, "needs model, a folder, and the section sampler"),
        ({"kind": "recorded"}, "needs path"),
        ({"kind": "recorded", "path": "x", "max_failures": -1}, "max_failures=-1"),
        ({"kind": "sampler", "model": "m", "sampler": SamplerSettings(8, 8)}, "do not fit into sampler.max_response=8"),
        ({"kind": "oracle"}, "must be one of"),
    ],
)
def test_a_generator_that_cannot_be_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        build(GeneratorSettings, settings, where="generators.x")


def test_generators_are_opened_when_they_are_wanted_and_once(tmp_path):
    path = recording(tmp_path, {"prompt": "a", "completion": "1"})
    there = GeneratorSettings("recorded", path=str(path))
    askers = Askers({"gold": there, "missing": GeneratorSettings("recorded", path="nowhere")}, tmp_path)
    assert askers["gold"] is askers["gold"] and list(askers) == ["gold", "missing"] and len(askers) == 2
    askers["gold"](user("a"))
    assert askers.counts() == {"gold": {"asked": 1, "tokens": 0}}
    with pytest.raises(UserError, match=r"there is no generator 'strong' .*gold, missing"):
        askers["strong"]
