"""Task specs: how configs and commands name tasks.

    BENCHMARK[:PLACE][?thinking=0]             a published set (`phi4r.evals.benchmarks.table`): rows of the Hub's own
                                               fields at PLACE (a file, a folder, tfds:NAME/SPLIT), else downloaded
    PUZZLE[?num=..&seed=0&split=test&KEY=..]   generated (`phi4r.evals.puzzles.table`): by default the evaluation set
    chains:SPLIT?num=500&min_ops=6&max_ops=7   arithmetic chains, the quickstart's (`phi4r.evals.puzzles.chains`)
    jsonl:PATH                                 a file of Problems with mathematical answers
    tfds:NAME/SPLIT[@DATA_DIR]                 a prepared data set of such problems, as `phi4r curate` writes it

All take `thinking=0`, for models that answer without a thought; otherwise a response without `</think>` counts as cut
off, and is wrong. All take `name=WORD`, the folder of the results. Where a verifier has these fields, `compat=1` judges
as the scorer of the published numbers does, quirks included, and `unprotected=1` runs programs without a sandbox.
"""

import dataclasses
import difflib
import pathlib
import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from phi4r.data.records import Problem, Trace, read_jsonl
from phi4r.data.sources import open_source
from phi4r.errors import UserError
from phi4r.evals.benchmarks.loading import load_benchmark
from phi4r.evals.benchmarks.table import BENCHMARKS
from phi4r.evals.puzzles import chains
from phi4r.evals.puzzles.chains import chain_problems
from phi4r.evals.puzzles.puzzle import PuzzleProblems
from phi4r.evals.puzzles.table import PUZZLES
from phi4r.evals.tasks import Task
from phi4r.verifiers.exact import IntegerVerifier
from phi4r.verifiers.math import MathVerifier
from phi4r.verifiers.verdict import Verifier

CHAINS_SPEC = "chains:SPLIT?num=500&min_ops=6&max_ops=7&seed=0"
JSONL_SPEC = "jsonl:PATH"
_VERIFIER_FLAGS = ("compat", "unprotected")


def load_task(spec: str, *, thinking: bool = True, system_message: str | None = None) -> Task:
    """Builds the task that `spec` names (see the module's docstring).

    Args:
      spec: of the task.
      thinking: whether the model thinks, where the spec does not say.
      system_message: put before every prompt.

    Raises:
      UserError: for an unknown task, a bad parameter, or data that cannot be had.
    """
    head, _, query = spec.partition("?")
    kind, _, place = head.partition(":")
    values = dict(parse_qsl(query, keep_blank_values=True))
    thinking = _flag(spec, values, "thinking", default=thinking)
    name = values.pop("name", "")
    if name and not name.replace("-", "").replace("_", "").isalnum():
        raise UserError(f"task {spec!r}: name={name} becomes a folder; use letters, digits, - and _.")
    flags = {key: values.pop(key) for key in _VERIFIER_FLAGS if key in values}
    makers = {"chains": _chains_task, "jsonl": _file_task, "tfds": _source_task}
    makers |= dict.fromkeys(PUZZLES, _puzzle_task) | dict.fromkeys(BENCHMARKS, _benchmark_task)
    if kind in makers:
        task = makers[kind](spec, kind, place, values, thinking)
        verifier = _with_flags(spec, task.verifier, flags)
        return dataclasses.replace(task, name=name or task.name, verifier=verifier, system_message=system_message)
    known = [*BENCHMARKS, *PUZZLES, "chains", "jsonl", "tfds"]
    near = difflib.get_close_matches(kind, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}."
    raise UserError(f"unknown task {spec!r}; {hint}")


def load_tasks(specs: str, *, thinking: bool = True, system_message: str | None = None) -> list[Task]:
    """Builds the tasks of specs with blanks between them.

    Raises:
      UserError: as `load_task`, and for two tasks of one name, which would share a folder or a curve.
    """
    tasks = [load_task(spec, thinking=thinking, system_message=system_message) for spec in specs.split()]
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two tasks are called {name}; give one another name, as {name}?name={name}_b.")
    return tasks


def solver_of(spec: str) -> Callable[[Problem], Trace]:
    """Returns what writes the worked solutions of the generated task that `spec` names.

    Raises:
      UserError: if it has no solver.
    """
    solvers = {"chains": chains.solve} | {name: puzzle.solve for name, puzzle in PUZZLES.items()}
    kind = spec.partition("?")[0].partition(":")[0]
    if kind not in solvers:
        raise UserError(f"task {spec!r} has no solver that writes thoughts; take {', '.join(sorted(solvers))}.")
    return solvers[kind]


def _puzzle_task(spec: str, name: str, place: str, values: dict[str, str], thinking: bool) -> Task:
    puzzle = PUZZLES[name]
    if place:
        raise UserError(f"task {spec!r} is generated and reads no file; write its parameters after a '?'.")
    defaults = {"num": puzzle.num_items, "seed": 0, "split": "test", **puzzle.parameters}
    form = f"{name}?" + "&".join(f"{key}={value}" for key, value in defaults.items())
    parameters = {**defaults, **_parameters(spec, values, known=defaults, form=form)}
    return Task(
        name=name if parameters["split"] == "test" else f"{name}-{parameters['split']}",
        problems=PuzzleProblems(puzzle, **parameters),
        verifier=puzzle.make_verifier(thinking),
        num_runs=puzzle.num_runs,
        benchmark=name,
        title=puzzle.title,
        groups=puzzle.groups,
        level=puzzle.level,
    )


def _benchmark_task(spec: str, name: str, place: str, values: dict[str, str], thinking: bool) -> Task:
    benchmark = BENCHMARKS[name]
    _parameters(spec, values, known={}, form=f"{name}:PLACE")
    loaded = load_benchmark(benchmark, place or None)
    return Task(
        name=name,
        problems=loaded.problems,
        verifier=benchmark.make_verifier(thinking),
        num_runs=benchmark.num_runs,
        benchmark=name,
        title=benchmark.title,
        groups=benchmark.groups,
        judge=benchmark.judge,
        malformed=loaded.malformed,
    )


def _file_task(spec: str, _: str, path: str, values: dict[str, str], thinking: bool) -> Task:
    _parameters(spec, values, known={}, form=JSONL_SPEC)
    return Task(pathlib.Path(path).stem, tuple(read_jsonl(path, Problem)), MathVerifier(thinking=thinking))


def _source_task(spec: str, kind: str, place: str, values: dict[str, str], thinking: bool) -> Task:
    _parameters(spec, values, known={}, form="tfds:NAME/SPLIT[@DATA_DIR]")
    source = open_source(f"{kind}:{place}")
    problems = tuple(Problem.from_dict(source[row], where=source.where(row)) for row in range(len(source)))
    name = "-".join(re.findall(r"\w+", place.partition("@")[0]))
    return Task(name, problems, MathVerifier(thinking=thinking))


def _chains_task(spec: str, _: str, split: str, values: dict[str, str], thinking: bool) -> Task:
    defaults = {"num": 0, "min_ops": 0, "max_ops": 0, "seed": 0}
    parameters = {"seed": 0, **_parameters(spec, values, known=defaults, form=CHAINS_SPEC)}
    missing = [key for key in defaults if key not in parameters]
    if missing:
        raise UserError(f"task {spec!r} lacks {', '.join(missing)}; write {CHAINS_SPEC}.")
    problems = chain_problems(split=split, **parameters)
    return Task(f"chains-{split}", tuple(problems), IntegerVerifier(thinking=thinking))


def _with_flags(spec: str, verifier: Verifier, flags: Mapping[str, str]) -> Verifier:
    """Returns the verifier with settings of its own from the spec."""
    fields = {field.name for field in dataclasses.fields(verifier)}
    for key in flags:
        if key not in fields:
            raise UserError(f"task {spec!r}: {key} means nothing to {type(verifier).__name__}; leave it out.")
    return dataclasses.replace(verifier, **{key: _flag(spec, dict(flags), key, default=False) for key in flags})


def _flag(spec: str, values: dict[str, str], key: str, *, default: bool) -> bool:
    """Takes a parameter that is 0 or 1 out of `values`."""
    value = values.pop(key, str(int(default)))
    if value not in ("0", "1"):
        raise UserError(f"task {spec!r}: {key} is 0 or 1 ({int(default)} by default).")
    return value == "1"


def _parameters(
    spec: str, values: Mapping[str, str], *, known: Mapping[str, int | str], form: str
) -> dict[str, int | str]:
    """Reads parameters: whole numbers where the default is one, else words."""
    parameters: dict[str, int | str] = {}
    for key, value in values.items():
        whole = isinstance(known.get(key), int)
        if key not in known or not value or (whole and not (value.isascii() and value.isdecimal())):
            what = f"one of {', '.join(known)}" if known else "a parameter of it"
            number = " with a whole number" if key not in known or whole else " with a word"
            raise UserError(f"task {spec!r}: {key}={value} is not {what}{number}; write {form}.")
        parameters[key] = int(value) if whole else value
    return parameters
