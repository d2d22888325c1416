import dataclasses
import json

import pytest

from phi4r.data.records import write_jsonl
from phi4r.errors import UserError
from phi4r.evals import experiment
from phi4r.evals.decoding import DecodingSettings
from phi4r.evals.experiment import EvalSettings
from phi4r.evals.responses import read_responses, summarise
from phi4r.evals.specs import load_task
from phi4r.model.rope_scaling import RopeSettings
from phi4r.sampling import SamplerSettings
from phi4r.sampling.generator import SamplerGenerator
from phi4r.sharding import MeshSettings
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder


@pytest.fixture
def settings(make_model, tmp_path) -> EvalSettings:
    """Six problems, of which the model of `make_model` answers two rightly: in 6 tokens."""
    answers = ["3", "4", "\\frac{6}{2}", "7", "8", "9"]
    write_jsonl(tmp_path / "sums.jsonl", [{"prompt": f"{i} +2 =", "answer": a} for i, a in enumerate(answers)])
    return EvalSettings(
        model=str(make_model()),
        task=f"jsonl:{tmp_path / 'sums.jsonl'}",
        sampler=SamplerSettings(prompt_length=16, max_response=8),
        decoding=DecodingSettings(max_tokens=8),
        num_runs=2,
        batch_size=4,
    )


@pytest.fixture
def asked(monkeypatch):
    """Grows by the rendered prompts of every call of the generator."""
    asked, call = [], SamplerGenerator.__call__

    def watched(self, conversations, **arguments):
        asked.append([self.chat.prompt_text(conversation) for conversation in conversations])
        return call(self, conversations, **arguments)

    monkeypatch.setattr(SamplerGenerator, "__call__", watched)
    return asked


def evaluated(settings, workdir) -> dict:
    """Runs the evaluation of the one task of `settings`; returns its results."""
    (results,) = experiment.run_evaluate(settings, workdir).values()
    return results


def test_a_model_with_known_answers_gets_the_score_that_it_deserves(settings, tmp_path, capsys):
    results = evaluated(settings, tmp_path / "eval")
    assert (results["num_items"], results["num_runs"]) == (6, 2)
    for name in ("accuracy", "best_run", "worst_run", "pass_at_k", "majority_at_k"):
        assert results[name] == pytest.approx(1 / 3), name
    assert (results["sd"], results["truncated"], results["unjudged"]) == (0.0, 0.0, 0)
    responses = read_responses(tmp_path / "eval" / "sums" / "responses.jsonl")
    assert {response.text for response in responses} == {"</think>\\boxed{3}"}
    lengths = {response.num_tokens for response in responses}
    assert lengths == {results["mean_tokens"]} == {results["mean_tokens_right"]} == {results["mean_tokens_wrong"]}
    text = capsys.readouterr().out
    assert "sums: 6 problems, 2 runs" in text
    assert "33.3% (95% interval" in text and "sd over runs 0.0" in text


def test_results_are_stored_with_their_protocol_and_follow_from_the_responses(settings, tmp_path):
    results = evaluated(settings, tmp_path)
    assert json.loads((tmp_path / "sums" / "results.json").read_text()) == json.loads(json.dumps(results))
    for name, value in dataclasses.asdict(summarise(tmp_path / "sums" / "responses.jsonl")).items():
        assert results[name] == value
    assert results["protocol"] == json.loads((tmp_path / "sums" / "protocol.json").read_text())
    assert set(results["protocol"]["provenance"]) == {"config", "tokenizer", "chat_template", "weights", "dtype"}


def test_a_second_run_asks_nothing_and_a_longer_one_only_the_rest(settings, tmp_path, asked):
    first = evaluated(settings, tmp_path / "eval")
    num_calls = len(asked)
    assert evaluated(settings, tmp_path / "eval") == first
    assert len(asked) == num_calls
    evaluated(dataclasses.replace(settings, num_runs=3), tmp_path / "eval")
    assert sum(map(len, asked[num_calls:])) == 6


def test_other_weights_in_the_same_workdir_are_refused(settings, make_model, tmp_path):
    evaluated(settings, tmp_path / "eval")
    other = dataclasses.replace(settings, model=str(make_model("</think>\\boxed{4}")))
    with pytest.raises(UserError, match=r"under another protocol: provenance\.weights"):
        evaluated(other, tmp_path / "eval")


def test_answers_of_a_cache_in_int8_are_not_continued_with_floats(settings, tmp_path):
    small = dataclasses.replace(settings, sampler=dataclasses.replace(settings.sampler, cache="int8"))
    evaluated(small, tmp_path / "eval")
    with pytest.raises(UserError, match=r"under another protocol: provenance\.sampler"):
        evaluated(settings, tmp_path / "eval")


def test_what_does_not_fit_into_the_limit_is_truncated_and_wrong(settings, tmp_path):
    short = dataclasses.replace(settings, decoding=DecodingSettings(max_tokens=2), num_runs=1)
    results = evaluated(short, tmp_path / "eval")
    assert (results["accuracy"], results["truncated"], results["mean_tokens"]) == (0.0, 1.0, 2.0)


def test_stop_strings_and_a_limit_of_the_thought_reach_the_sampler(settings, make_model, tmp_path):
    def texts(folder, **decoding):
        thinker = dataclasses.replace(
            settings,
            model=str(make_model("<think> so</think>\\boxed{3}")),
            decoding=dataclasses.replace(settings.decoding, **decoding),
            num_runs=1,
        )
        evaluated(thinker, tmp_path / folder)
        return {response.text for response in read_responses(tmp_path / folder / "sums" / "responses.jsonl")}

    assert texts("free") == {"<think> so</think>\\boxed{3}"}
    assert texts("stop", stop=("boxed", "</think>")) == {"<think> so"}
    assert texts("forced", max_thought=1) == {"<think></think>\\boxed{3}"}


def test_a_limit_of_the_thought_needs_think_tokens(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "load_model", None)
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), tmp_path / "plain")
    plain = dataclasses.replace(
        settings, model=str(tmp_path / "plain"), decoding=dataclasses.replace(settings.decoding, max_thought=4)
    )
    with pytest.raises(UserError, match=r"has no </think> token; make a reasoning model"):
        evaluated(plain, tmp_path / "eval")


def test_the_mesh_and_the_size_of_waves_do_not_change_the_answers(settings, tmp_path):
    spread = dataclasses.replace(settings, mesh=MeshSettings(data=2, fsdp=2, tensor=2))
    waves = dataclasses.replace(settings, sampler=dataclasses.replace(settings.sampler, num_slots=2))
    results = [evaluated(s, tmp_path / str(i)) for i, s in enumerate((settings, spread, waves))]
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("fixed", [None, "Be brief."])
def test_a_system_message_takes_the_place_of_the_models_own(settings, make_model, tmp_path, asked, fixed):
    sampler = dataclasses.replace(settings.sampler, prompt_length=64)
    model = dataclasses.replace(settings, model=str(make_model(system_message=fixed)), sampler=sampler)
    evaluated(model, tmp_path / "own")
    results = evaluated(dataclasses.replace(model, system_message="Think."), tmp_path / "other")
    question = "<|im_start|>user<|im_sep|>0 +2 =<|im_end|><|im_start|>assistant<|im_sep|>"
    own = "" if fixed is None else f"<|im_start|>system<|im_sep|>{fixed}<|im_end|>"
    assert asked[0][0] == own + question
    assert asked[-1][-1].startswith("<|im_start|>system<|im_sep|>Think.<|im_end|><|im_start|>user<|im_sep|>")
    assert results["protocol"]["system_message"] == "Think."


def test_prompts_that_are_too_long_are_refused_before_the_model_is_loaded(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "load_model", None)
    tight = dataclasses.replace(settings, sampler=SamplerSettings(prompt_length=3, max_response=8))
    with pytest.raises(UserError, match=r"6 of 6 prompts of task sums have more than sampler\.prompt_length=3 tokens"):
        evaluated(tight, tmp_path / "eval")
    assert not (tmp_path / "eval").exists()


def test_rows_past_the_models_context_are_warned_of(settings, tmp_path, caplog):
    far = dataclasses.replace(settings, sampler=SamplerSettings(prompt_length=16, max_response=300))
    evaluated(far, tmp_path / "eval")
    assert "Rows may reach 316 tokens; the model was made for 256 positions." in caplog.text


def test_rope_takes_the_rows_past_the_models_context_and_is_part_of_the_protocol(settings, tmp_path, caplog):
    far = dataclasses.replace(settings, sampler=SamplerSettings(prompt_length=16, max_response=300))
    results = evaluated(dataclasses.replace(far, rope=RopeSettings("yarn", 2.0)), tmp_path / "eval")
    assert "Rows may reach" not in caplog.text
    assert results["protocol"]["provenance"]["rope"]["scaling"] == "yarn"
    with pytest.raises(UserError, match="another protocol"):
        evaluated(far, tmp_path / "eval")


def test_responses_that_could_not_be_judged_are_counted_and_named(settings, tmp_path, capsys):
    write_jsonl(tmp_path / "bad.jsonl", [{"prompt": "1 +2 =", "answer": "3"}, {"prompt": "2 +2 =", "answer": "none"}])
    integers = load_task(f"jsonl:{tmp_path / 'bad.jsonl'}")
    integers = dataclasses.replace(integers, verifier=load_task("chains:dev?num=1&min_ops=2&max_ops=2").verifier)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "load_tasks", lambda *_, **__: [integers])
        results = evaluated(dataclasses.replace(settings, num_runs=1), tmp_path / "eval")
    assert (results["accuracy"], results["unjudged"]) == (0.5, 1)
    assert "not judged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoding": DecodingSettings(max_tokens=9)}, r"max_tokens=9 tokens do not fit into sampler\.max_response=8"),
        ({"num_runs": 0}, "num_runs=0 must be at least 1"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings, changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(settings, **changes)
