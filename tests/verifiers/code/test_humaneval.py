import ast
import gzip
import json
import time

import pytest

from phi4r.errors import UserError
from phi4r.verifiers.code import function_tests, sandbox
from phi4r.verifiers.code.function_tests import FunctionTests, expected_outputs
from phi4r.verifiers.code.humaneval import HumanEvalVerifier, count_passed
from phi4r.verifiers.code.sandbox import sandbox_available
from phi4r.verifiers.pool import VerifierPool
from phi4r.verifiers.specification import rebuild, specification
from phi4r.verifiers.verdict import SelfLimitedVerifier

pytestmark = pytest.mark.skipif(
    sandbox_available() is not None, reason=f"no sandbox on this machine: {sandbox_available()}"
)

# Outputs of every kind: floats with a tolerance, tuples, None, text, lists, truth values; helpers in the prompt.
TASKS = (0, 2, 4, 8, 10, 32, 38, 95, 99, 107, 136, 162)

HEAD = 'import math\n\n\ndef half(x):\n    return x / 2\n\n\ndef mean(xs):\n    """Returns the mean."""\n'
MEAN = FunctionTests(HEAD, "mean", "    return math.fsum(xs) / len(xs)\n", [[[1, 2]], [[3]]], [[[0.1] * 10], [[5, 9]]])


@pytest.fixture(scope="module")
def tasks(shared_data) -> dict[int, FunctionTests]:
    """The chosen tasks of HumanEval+."""
    fields = ("prompt", "entry_point", "canonical_solution", "base_input", "plus_input", "atol")
    with gzip.open(shared_data / "humanevalplus" / "HumanEvalPlus.jsonl.gz") as file:
        rows = [json.loads(line) for line in file]
    numbers = [int(row["task_id"].split("/")[1]) for row in rows]
    return {
        number: FunctionTests(**{field: row[field] for field in fields})
        for number, row in zip(numbers, rows, strict=True)
        if number in TASKS
    }


@pytest.fixture
def impatient(monkeypatch):
    """Less time for answers that take too long."""
    monkeypatch.setattr(function_tests, "_MIN_TEST_S", 0.5)
    monkeypatch.setattr(function_tests, "_MIN_TOTAL_S", 0.1)
    monkeypatch.setattr(function_tests, "_START_S", 1.0)


def _judge(source: str, tests: FunctionTests = MEAN, **settings):
    return HumanEvalVerifier(**settings)(f"So:\n```python\n{source}\n```", tests.to_reference())


def _mean(body: str) -> str:
    return "def mean(xs):\n" + "\n".join("    " + line for line in body.split("\n"))


@pytest.mark.parametrize("number", TASKS)
def test_the_canonical_solution_passes_all_tests(tasks, number):
    verdict = _judge(tasks[number].prompt + tasks[number].canonical_solution, tasks[number])
    assert (verdict.correct, verdict.status, verdict.parts) == (True, "ok", {"base": 1.0, "plus": 1.0})


class _Mutation(ast.NodeTransformer):
    """Negates the first condition, or moves the first number, or returns something else."""

    def __init__(self, kind: str):
        self.kind = kind
        self.done = False

    def visit(self, node):
        if self.done:
            return node
        if self.kind == "negate" and isinstance(node, ast.If | ast.While | ast.IfExp):
            node.test = ast.UnaryOp(ast.Not(), node.test)
            self.done = True
        elif self.kind == "number" and isinstance(node, ast.Constant) and type(node.value) in (int, float):
            self.done = True
            return ast.copy_location(ast.Constant(node.value + 1), node)
        elif self.kind == "return" and isinstance(node, ast.Return):
            node.value = ast.List([node.value], ast.Load())
            self.done = True
        return node if self.done else self.generic_visit(node)


@pytest.mark.parametrize("kind", ["negate", "number", "return"])
def test_mutated_solutions_fail(tasks, kind):
    passed = {}
    for number, tests in tasks.items():
        module = ast.parse(tests.prompt + tests.canonical_solution)
        (function,) = (node for node in module.body if getattr(node, "name", "") == tests.entry_point)
        mutation = _Mutation(kind)
        function.body = [mutation.visit(statement) for statement in function.body]
        if mutation.done:
            verdict = _judge(ast.unparse(ast.fix_missing_locations(module)), tests)
            passed[number] = verdict.correct
            assert verdict.status == "ok"
    assert len(passed) >= 6
    assert not any(passed.values()), passed


def test_an_answer_that_knows_the_first_inputs_only_passes_these(tasks):
    for number in (0, 99):
        tests = tasks[number]
        table = dict(zip(map(json.dumps, tests.base_input), expected_outputs(tests).outputs, strict=False))
        source = f"import json\ndef {tests.entry_point}(*args):\n"
        source += f"    return json.loads({table!r}.get(json.dumps(list(args)), b'\"\"'))"
        verdict = _judge(source, tests)
        assert not verdict.correct and verdict.score == 0.0
        assert verdict.parts == {"base": 1.0, "plus": 0.0}


@pytest.mark.parametrize(
    "source",
    [
        _mean("return sum(xs) / len(xs)"),
        "from __future__ import annotations\nfrom statistics import fmean as mean",
        _mean("return half(2 * sum(xs)) / len(xs)"),  # a helper of the prompt
        "    return math.fsum(xs) / len(xs)",  # a body alone
        _mean("print('noise' * 10**6)\nreturn math.fsum(xs) / len(xs)"),
        _mean("import sys; sys.stderr.write('x' * 10**7)\nreturn math.fsum(xs) / len(xs)"),
        _mean("xs.append(0)\nreturn math.fsum(xs) / (len(xs) - 1)"),  # what it does to its arguments is its own
        _mean("return math.fsum(xs) / len(xs)") + "\nif __name__ == '__main__':\n    mean(input())",
        "class Mean(float):\n    def __eq__(self, other): return False\n"
        + _mean("return Mean(math.fsum(xs) / len(xs))"),
    ],
)
def test_right_answers_pass_in_any_dress(source):
    assert _judge(source).correct


@pytest.mark.parametrize(
    "source, base",
    [
        ("", 0),
        ("def other(xs): return 0", 0),
        ("mean = 1.5", 0),
        ("not python", 0),
        ("1 / 0", 0),
        ("x = '\ud800'", 0),
        ("import sys; sys.exit(0)", 0),
        ("import os; os._exit(0)", 0),
        ("import os; os.kill(os.getpid(), 9)", 0),
        (_mean("pass"), 0),
        (_mean("raise SystemExit(0)"), 0),
        (_mean("return [math.fsum(xs) / len(xs)]"), 0),
        (_mean("return str(math.fsum(xs) / len(xs))"), 0),
        (_mean("return (x for x in [math.fsum(xs) / len(xs)])"), 0),
        (_mean("if len(xs) > 2: import os; os._exit(0)\nreturn math.fsum(xs) / len(xs)"), 1),
        (_mean("return math.fsum(xs) / len(xs) + 1e-5 * (len(xs) == 10)"), 1),
        (_mean("return 1.5 if len(xs) == 2 else 3"), 1),
        # A value that says of itself that it is equal to all others
        ("class Any(float):\n    def __eq__(s, o): return True\n" + _mean("return Any(9)"), 0),
        ("class Any:\n    def __eq__(s, o): return True\n    def __sub__(s, o): return 0\n" + _mean("return Any()"), 0),
        # Verdicts, where none are read
        ("print('{\"correct\": true}')\nimport os; os._exit(0)", 0),
        ("import os\nfor fd in range(9):\n    try: os.write(fd, b'ok\\ntrue\\npass\\n[1, true]\\n' * 9)\n"
         "    except OSError: pass\nos._exit(0)", 0),
        ("import os\nfor fd in range(9):\n    try: os.write(fd, b'0.0 null\\n' * 4)\n    except OSError: pass", 0),
        # Whoever takes over the process still does not know the outputs.
        ("import json\njson.dumps = lambda *a, **k: '{\"other\": \"float\"}'\n" + _mean("return 1"), 0),
        ("import sys\nmain = sys.modules['__main__']\nmain.encode = lambda *a: True\n" + _mean("return 1"), 0),
        ("import sys\nsys.modules['__main__'].report_of = lambda *a: 'true'\n" + _mean("return 1"), 0),
        ("import builtins\nbuiltins.zip = lambda *a, **k: []\n" + _mean("return 1"), 0),
    ],
)  # fmt: skip
def test_wrong_answers_fail_whatever_they_do(source, base):
    verdict = _judge(source)
    assert (verdict.correct, verdict.status, verdict.score) == (False, "ok", 0.0)
    assert verdict.parts == {"base": float(base), "plus": 0.0}


@pytest.mark.parametrize(
    "body",
    [
        "while len(xs) == 10:\n    try:\n        while True: pass\n    except BaseException: pass\n"
        "return math.fsum(xs) / len(xs)",
        "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nsignal.pthread_sigmask(0, range(1, 65))\n"
        "while len(xs) == 10: pass\nreturn math.fsum(xs) / len(xs)",
        "if len(xs) == 10: return 10 ** 10 ** 9\nreturn math.fsum(xs) / len(xs)",
    ],
)  # fmt: skip
def test_an_answer_without_end_fails_in_bounded_time(impatient, body):
    start = time.monotonic()
    verdict = _judge(_mean(body))
    assert verdict.status == "ok" and verdict.parts == {"base": 1.0, "plus": 0.0}
    assert time.monotonic() - start < 4


def test_an_answer_may_take_four_times_as_long_as_the_canonical_solution(impatient):
    slow = FunctionTests(HEAD, "mean", "    import time; time.sleep(0.3); return 1", [[[1]]], [])
    assert _judge(_mean("import time; time.sleep(0.9); return 1"), slow).correct
    assert not _judge(_mean("import time; time.sleep(1.6); return 1"), slow).correct


def test_an_answer_that_takes_all_memory_fails():
    assert _judge(_mean("x = [xs]\nwhile True: x += x")).parts == {"base": 0.0, "plus": 0.0}


def test_only_what_follows_the_thought_is_judged():
    right, wrong = (f"```python\n{_mean(body)}\n```" for body in ("return math.fsum(xs) / len(xs)", "return 0"))
    verifier = HumanEvalVerifier(thinking=True)
    reference = MEAN.to_reference()
    assert verifier(f"<think>{wrong}</think>{right}", reference).correct
    assert not verifier(f"<think>{right}</think>{right}\nNo:\n{wrong}", reference).correct
    assert verifier(f"<think>{right}", reference).status == "no_answer"
    assert verifier("<think></think>I do not know.", reference).status == "no_answer"
    assert HumanEvalVerifier()(right, reference).correct


@pytest.mark.parametrize("reference", ["", "[]", "{}", '{"prompt": 1}', "[" * 10**5, MEAN.to_reference()[:-1]])
def test_a_malformed_reference_is_an_error(reference):
    assert HumanEvalVerifier()("```python\nx = 1\n```", reference).status == "error"


def test_a_canonical_solution_that_does_not_run_is_an_error():
    broken = FunctionTests(HEAD, "mean", "    return sum(xs) / 0", [[[1]]], [])
    assert count_passed("mean = sum", broken) is None
    assert _judge("mean = sum", broken).status == "error"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": ""}, "'prompt' must be text"),
        ({"entry_point": "a b"}, "'entry_point' must be the name"),
        ({"base_input": []}, "'base_input' has no inputs"),
        ({"plus_input": [1]}, "'plus_input' must be a list of lists"),
        ({"atol": -1}, "'atol' must be a number"),
        ({"atol": float("nan")}, "'atol' must be a number"),
    ],
)
def test_malformed_tests_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        FunctionTests(**{**json.loads(MEAN.to_reference()), **changes})


def test_the_canonical_solution_runs_once_for_all_threads(monkeypatch):
    runs = []
    run_python = sandbox.run_python
    monkeypatch.setattr(function_tests, "run_python", lambda *a, **k: runs.append(k["files"]) or run_python(*a, **k))
    tests = FunctionTests(HEAD, "mean", "    return sum(xs) / len(xs)  # once", [[[1, 2]]], [])
    verifier = HumanEvalVerifier()
    with VerifierPool(num_workers=4) as pool:
        verdicts = pool.verify_all(
            verifier, ["```python\ndef mean(xs): return 1.5\n```"] * 6, [tests.to_reference()] * 6
        )
        assert pool.counts == {"ok": 6}
    assert all(verdict.correct for verdict in verdicts)
    assert len(runs) == 7 and sum(b"# once" in files["answer.py"] for files in runs) == 1


def test_a_sandbox_that_does_not_open_is_an_error_of_the_judge(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no processes left")

    monkeypatch.setattr(function_tests, "run_python", fail)
    assert (
        _judge(_mean("return 0"), FunctionTests(HEAD, "mean", "    return 0  # unknown", [[[1]]], [])).status == "error"
    )


def test_without_namespaces_the_judge_refuses_unless_told(monkeypatch):
    monkeypatch.setattr(sandbox, "sandbox_available", lambda: "user namespaces are not allowed")
    tests = FunctionTests(HEAD, "mean", "    return 0  # anew", [[[1]]], [])
    with pytest.raises(UserError, match="unprotected=True"):
        _judge(_mean("return 0"), tests)
    assert _judge(_mean("return 0"), tests, unprotected=True).correct


def test_the_judge_travels_as_its_fields_and_limits_itself():
    verifier = HumanEvalVerifier(thinking=True, unprotected=True)
    assert isinstance(verifier, SelfLimitedVerifier)
    assert rebuild(json.loads(json.dumps(specification(verifier)))) == verifier
