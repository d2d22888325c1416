import pytest

from configs import grpo_envs, quickstart
from phi4r.data.records import Trace
from phi4r.data.sources import open_source
from phi4r.errors import UserError
from phi4r.evals.puzzles.chains import chain_problems, solve
from phi4r.evals.specs import load_task, solver_of
from phi4r.quickstart.problems import write_problems
from phi4r.quickstart.settings import ProblemSettings

SPECS = {
    "sft": "chains:train?num=300&min_ops=2&max_ops=5",
    "rl": "chains:train?num=40&min_ops=6&max_ops=7",
    "dev": "chains:dev?num=8&min_ops=6&max_ops=7",
    "test": "chains:test?num=8&min_ops=6&max_ops=7",
}


def write(folder, seed=0, **specs):
    write_problems(ProblemSettings(**(specs or SPECS)), folder, seed=seed)


def traces_in(folder) -> list[Trace]:
    source = open_source(f"tfds:quickstart_sft/train@{folder}/data")
    return [Trace.from_dict(source[row]) for row in range(len(source))]


def texts(trace: Trace) -> tuple[str, ...]:
    return trace.id.removeprefix("sft/"), trace.prompt, trace.thought, trace.solution


def test_the_traces_are_those_of_the_solver_in_its_order_under_the_seed(tmp_path):
    write(tmp_path, seed=3)
    traces = traces_in(tmp_path)
    expected = list(map(solve, chain_problems(300, seed=3, min_ops=2, max_ops=5)))
    assert list(map(texts, traces)) == list(map(texts, expected)) and len(set(map(texts, traces))) == 300
    assert all(trace.answer == other.answer for trace, other in zip(traces, expected, strict=True))
    assert {trace.meta["num_ops"] for trace in traces} == {2, 3, 4, 5}


def test_problems_of_grpo_are_read_by_name_and_have_none_of_sft(tmp_path):
    write(tmp_path)
    problems = load_task(f"tfds:quickstart_rl/train@{tmp_path}/data").problems
    expected = chain_problems(40, seed=0, min_ops=6, max_ops=7)
    assert [(p.id, p.prompt, p.answer) for p in problems] == [(f"rl/{p.id}", p.prompt, p.answer) for p in expected]
    assert not (tmp_path / "rl.jsonl").exists()
    assert [len(load_task(f"jsonl:{tmp_path}/{name}.jsonl").problems) for name in ("dev", "test")] == [8, 8]


def test_the_card_counts_both_sets_and_a_second_writing_does_nothing_again(tmp_path, capsys):
    write(tmp_path)
    card = (tmp_path / "data" / "README.md").read_text()
    assert f"| tfds:quickstart_sft/train@{tmp_path}/data | 300 |" in card
    assert f"| tfds:quickstart_rl/train@{tmp_path}/data | 40 |" in card
    assert "finished before" not in capsys.readouterr().out
    write(tmp_path)
    assert capsys.readouterr().out.count("finished before") == 4


def test_the_same_seed_gives_the_same_sets(tmp_path):
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        write(tmp_path / name, seed=seed)
    a, b, c = (traces_in(tmp_path / name) for name in "abc")
    assert a == b and set(map(texts, a)) != set(map(texts, c))


@pytest.mark.parametrize("env", ["maze", "3sat", "tsp", "ba_calendar", "spatial_map", "flenqa"])
def test_traces_of_an_environment_are_its_solvers_and_there_are_no_problems_of_grpo(env, tmp_path):
    spec = grpo_envs.get_config(env).problems.sft.replace("num=20000", "num=12")
    write(tmp_path, sft=spec, test=f"{env}?num=2")
    expected = list(map(solver_of(spec), load_task(f"{spec}&seed=0").problems))
    assert list(map(texts, traces_in(tmp_path))) == list(map(texts, expected)) and len(expected) == 12
    assert not list(tmp_path.glob("data/quickstart_rl*"))


def test_the_configs_read_what_is_written(tmp_path):
    write(tmp_path / "problems")
    config = quickstart.get_config()
    for spec in (config.sft.data.sources[0]["spec"], grpo_envs.get_config().sft.data.sources[0]["spec"]):
        assert len(open_source(spec.replace("{workdir}", str(tmp_path)))) == 300
    assert len(load_task(config.grpo.task.replace("{workdir}", str(tmp_path))).problems) == 40


def test_a_task_without_a_solver_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="has no solver that writes thoughts"):
        write(tmp_path / "new", sft="math500", test="maze?num=2")
    assert not (tmp_path / "new").exists()
