import pytest

from phi4r.checkpoint.release import load_model
from phi4r.data.records import write_jsonl
from phi4r.evals.probe import Probe, ProbeSettings
from phi4r.sampling import SamplerSettings
from phi4r.text.chat import load_chat


@pytest.fixture
def measure(make_model, tmp_path):
    write_jsonl(tmp_path / "dev.jsonl", [{"prompt": f"{i} +2 =", "answer": i + 2} for i in range(4)])

    def measure(model=None, *, max_response=8, temperature=0.0):
        loaded = load_model(model or make_model())
        settings = ProbeSettings(
            f"jsonl:{tmp_path / 'dev.jsonl'}",
            every=5,
            sampler=SamplerSettings(prompt_length=16, max_response=max_response),
            temperature=temperature,
        )
        with Probe(settings, loaded.config, load_chat(loaded.folder)) as probe:
            return probe.measure(loaded.params), probe.measure(loaded.params)

    return measure


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_with_known_answers_is_measured_as_it_deserves(measure, make_model, temperature):
    tokenizer = load_chat(make_model()).tokenizer
    length = len(tokenizer.encode("</think>\\boxed{3}", specials=True)) + 1  # and the end token
    first, again = measure(temperature=temperature)
    assert first == {"dev_accuracy": 0.25, "dev_length": length, "dev_clipped_share": 0.0}
    assert again == first


def test_answers_that_are_cut_off_are_wrong_and_counted(measure):
    first, _ = measure(max_response=2)
    assert first == {"dev_accuracy": 0.0, "dev_length": 2.0, "dev_clipped_share": 1.0}


def test_an_answer_without_a_thought_is_wrong(measure, make_model):
    first, _ = measure(make_model("\\boxed{3}"))
    assert first["dev_accuracy"] == 0.0


def test_it_is_due_every_so_many_steps_and_at_the_end(make_model):
    loaded = load_model(make_model())
    settings = ProbeSettings("chains:dev?num=1&min_ops=2&max_ops=2", every=5, sampler=SamplerSettings(24, 8))
    with Probe(settings, loaded.config, load_chat(loaded.folder)) as probe:
        assert [step for step in range(1, 13) if probe.due(step, 12)] == [5, 10, 12]
