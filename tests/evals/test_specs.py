import pytest

from phi4r.data.records import Problem, write_jsonl
from phi4r.data.tfds_source import write_tfds
from phi4r.errors import UserError
from phi4r.evals.puzzles.chains import chain_problems
from phi4r.evals.specs import load_task
from phi4r.verifiers import IntegerVerifier, MathVerifier, verify_all


@pytest.fixture
def problems_file(tmp_path):
    path = tmp_path / "aime_2025.jsonl"
    write_jsonl(path, [{"id": "I-1", "prompt": "What is 35 * 2?", "answer": 70}, {"prompt": "Half?", "answer": "1/2"}])
    return path


def test_a_chains_spec_names_the_same_problems_as_the_function():
    task = load_task("chains:test?num=20&min_ops=6&max_ops=7&seed=3")
    assert list(task.problems) == chain_problems(20, seed=3, min_ops=6, max_ops=7, split="test")
    assert (task.name, task.num_runs, task.system_message) == ("chains-test", 1, None)
    assert load_task("chains:test?num=20&min_ops=6&max_ops=7").digest() != task.digest()


def test_a_file_of_problems_is_a_task_named_after_it(problems_file):
    task = load_task(f"jsonl:{problems_file}", system_message="Think.")
    assert task.name == "aime_2025"
    assert [(p.prompt, p.answer) for p in task.problems] == [("What is 35 * 2?", "70"), ("Half?", "1/2")]
    assert task.conversation(task.problems[0]) == [
        {"role": "system", "content": "Think."},
        {"role": "user", "content": "What is 35 * 2?"},
    ]


@pytest.mark.parametrize("kind", ["chains", "jsonl"])
def test_an_answer_without_a_finished_thought_is_wrong_unless_the_spec_says_that_models_do_not_think(
    kind, problems_file
):
    spec = f"jsonl:{problems_file}?" if kind == "jsonl" else "chains:dev?num=5&min_ops=2&max_ops=2&"
    thinking, plain = (load_task(spec + option).verifier for option in ("", "thinking=0"))
    assert isinstance(thinking, MathVerifier if kind == "jsonl" else IntegerVerifier)
    responses = ["<think> so </think> \\boxed{7}", "<think> it may be \\boxed{7}", "\\boxed{7}"]
    assert [v.correct for v in verify_all(thinking, responses, ["7"] * 3)] == [True, False, False]
    assert [v.correct for v in verify_all(plain, responses, ["7"] * 3)] == [True, True, True]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("chainz:test", "unknown task 'chainz:test'; did you mean 'chains'"),
        ("something:else", "unknown task 'something:else'; known are"),
        ("chains:test?num=5", "lacks min_ops, max_ops"),
        ("chains:test?num=five&min_ops=2&max_ops=3", "num=five is not one of"),
        ("chains:test?num=5&min_ops=2&max_ops=3&ops=4", "ops=4 is not one of"),
        ("chains:valid?num=5&min_ops=2&max_ops=3", "no split 'valid'"),
        ("jsonl:missing.jsonl", "there is no file missing.jsonl"),
        ("jsonl:missing.jsonl?num=3", "num=3 is not a parameter of it"),
        ("jsonl:missing.jsonl?thinking=2", "thinking is 0 or 1"),
        ("jsonl:missing.jsonl?thinking", "thinking is 0 or 1"),
    ],
)
def test_a_bad_spec_is_refused(spec, message):
    with pytest.raises(UserError, match=message):
        load_task(spec)


def test_a_data_set_of_curation_is_a_task(tmp_path):
    problems = [Problem("a", "1 + 1?", "2", {"source": "sums"}), Problem("b", "2 + 2?", "4", {"source": "sums"})]
    write_tfds(tmp_path, "curated_rl", {"train": problems, "held_out": problems[:1]})
    task = load_task(f"tfds:curated_rl/train@{tmp_path}")
    assert (task.name, task.verifier) == ("curated_rl-train", MathVerifier(thinking=True))
    assert sorted(task.problems, key=lambda problem: problem.id) == problems
    with pytest.raises(UserError, match="no split 'test'; there: held_out, train"):
        load_task(f"tfds:curated_rl/test@{tmp_path}")
