import pytest

from phi4r.checkpoint.release import load_model
from phi4r.data.records import write_jsonl
from phi4r.errors import UserError
from phi4r.evals.probe import ProbeSettings, open_probe
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
        with open_probe(settings, loaded.config, load_chat(loaded.folder)) as probe:
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
    with open_probe(settings, loaded.config, load_chat(loaded.folder)) as probe:
        assert [step for step in range(1, 13) if probe.due(step, 12)] == [5, 10, 12]


@pytest.fixture
def sums(tmp_path):
    """Writes files of sums of which the model that always says 3 gets the first `num_right` right."""

    def sums(name: str, *, num_right: int, num_wrong: int) -> str:
        rows = [{"prompt": f"{i} +2 =", "answer": 3 if i < num_right else 4} for i in range(num_right + num_wrong)]
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
        return f"jsonl:{tmp_path / name}.jsonl"

    return sums


def probe_of(loaded, task, **settings):
    sampler = SamplerSettings(prompt_length=16, max_response=8)
    return open_probe(ProbeSettings(task, 5, sampler, **settings), loaded.config, load_chat(loaded.folder))


def test_several_tasks_have_figures_of_their_own_and_a_mean_in_which_each_counts_alike(make_model, sums):
    loaded = load_model(make_model())
    tasks = f"{sums('easy', num_right=3, num_wrong=1)} {sums('hard', num_right=1, num_wrong=9)}"
    with probe_of(loaded, tasks) as probe:
        measured = probe.measure(loaded.params)
        assert set(measured) == set(probe.metrics)
    assert (measured["dev_accuracy_easy"], measured["dev_accuracy_hard"]) == (0.75, 0.1)
    assert measured["dev_accuracy"] == pytest.approx((0.75 + 0.1) / 2)
    assert measured["dev_length"] == measured["dev_length_easy"] == measured["dev_length_hard"]


def test_the_budget_bounds_problems_and_runs_and_is_said(make_model, sums):
    loaded = load_model(make_model())
    task = sums("sums", num_right=2, num_wrong=6)
    with probe_of(loaded, task, num_problems=4, num_runs=3, temperature=1.0) as probe:
        assert probe.measure(loaded.params)["dev_accuracy"] == 0.5
        assert probe.budget() == (
            "probe every 5 steps: 4 of sums; 12 answers of at most 8 tokens, 96 in all"  # 4 * 3 * 8
        )
    with probe_of(loaded, task, num_problems=100) as probe:
        assert probe.measure(loaded.params)["dev_accuracy"] == 0.25
        assert "8 answers of at most 8 tokens, 64 in all" in probe.budget()


def test_without_a_task_there_is_no_probe(make_model):
    loaded = load_model(make_model())
    with probe_of(loaded, "") as probe:
        assert probe is None
    with open_probe(None, loaded.config, load_chat(loaded.folder)) as probe:
        assert probe is None


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("jsonl:long.jsonl", {}, r"1 of 1 prompts of task long have more than sampler.prompt_length=16 tokens"),
        ("maze maze", {}, "two tasks are called maze; give one another name, as maze\\?name=maze_b"),
        ("maize", {}, "unknown task 'maize'; did you mean 'maze'"),
        ("maze", {"num_runs": 0}, "a probe needs every >= 1, num_runs >= 1"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_training(make_model, tmp_path, monkeypatch, task, settings, message):
    monkeypatch.chdir(tmp_path)
    write_jsonl("long.jsonl", [{"prompt": "1 +2 " * 50, "answer": 3}])
    with pytest.raises(UserError, match=message), probe_of(load_model(make_model()), task, **settings):
        pass
