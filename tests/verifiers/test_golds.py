"""Real references: each answers itself, none answers its neighbour, and math-verify says the same."""

import itertools
import re
import time

import pytest

from phi4r.evals.benchmarks.aime import AIME_2024, AIME_2025
from phi4r.evals.benchmarks.loading import load_benchmark
from phi4r.evals.benchmarks.math_sets import GSM8K, MATH_500, OLYMMATH
from phi4r.evals.benchmarks.omni_math import OMNI_MATH
from phi4r.verifiers import MathVerifier, VerifierPool, math_equivalent
from phi4r.verifiers.algebra.normal_form import normal_form
from phi4r.verifiers.algebra.structure import Expression, parse_structure
from phi4r.verifiers.math import reference_forms

SETS = {  # where each lies, and the number of problems that it was published with
    AIME_2024: ("aime/aime_2024_nemo.jsonl", 30),
    AIME_2025: ("aime/aime_2025_nemo.jsonl", 30),
    GSM8K: ("gsm8k/test.jsonl", 1319),
    MATH_500: ("math500", 500),
    OLYMMATH: ("olymmath", 200),
    OMNI_MATH: ("omni_math_rule", 2821),
}

# The references in these sets, in alphabetical order, whose neighbour is truly equal (units and spelling aside).
TRUE_EQUALS = {
    (r"106", r"106^\circ"),
    (r"15\mbox{ cm}^2", r"15^{\circ}"),
    (r"25^{\circ}", r"25^{\circ} \mathrm{C}"),
    (r"2^{101} - 1", r"2^{101}-1"),
    (r"30^\circ", r"30^{\circ}"),
    (r"320", r"320^{\circ}"),
    (r"36^\circ", r"36^{\circ}"),
    (r"48", r"48 \mathrm{~km} / \mathrm{h}"),
    (r"7200", r"7200 \mathrm{MB}"),
    (r"75^\circ", r"75^{\circ}"),
    (r"84", r"84^{\circ}"),
    (r"864", r"864 \mbox{ inches}^2"),
    (r"89", r"89 \mathrm{~km} / \mathrm{h}"),
    (r"\binom{4025}{2012}", r"\binom{4025}{2013}"),  # by symmetry: 2012 + 2013 = 4025
    (r"\frac{1 + \sqrt{5}}{2}", r"\frac{1+\sqrt{5}}{2}"),
}
# Those that no parser here evaluates; they are right as strings only: too large, quantified, or given by words.
NOT_EVALUATED = re.compile(r"2014!\^|\\ldots|\\max|\\binom\{\\binom|\\mathbb|A_BY|\\sum|\\pmod|f \\in|e\^\{23110\}")


@pytest.fixture(scope="module")
def problems(shared_data):
    return {b: load_benchmark(b, str(shared_data / place)) for b, (place, _) in SETS.items()}


@pytest.fixture(scope="module")
def pool():
    with VerifierPool(num_workers=2, deadline_s=10.0) as pool:
        pool.warm_up(MathVerifier())
        yield pool


def golds_of(problems, benchmarks) -> list[str]:
    """The distinct references of some sets, in alphabetical order."""
    return sorted({problem.answer for benchmark in benchmarks for problem in problems[benchmark].problems})


@pytest.mark.parametrize("benchmark", SETS, ids=lambda benchmark: benchmark.name)
def test_every_real_reference_answers_itself(problems, pool, benchmark):
    loaded = problems[benchmark]
    assert (len(loaded.problems), loaded.malformed) == (SETS[benchmark][1], ())
    golds = [problem.answer for problem in loaded.problems]
    boxed = [gold + "}" * (gold.count("{") - gold.count("}")) for gold in golds]  # four of Omni-MATH are cut off
    responses = [rf"<think>\boxed{{0}}</think>So it is $\boxed{{{answer}}}$." for answer in boxed]
    verdicts = pool.verify_all(benchmark.make_verifier(True), responses, golds)
    assert [gold for gold, verdict in zip(golds, verdicts, strict=True) if not verdict.correct] == []


@pytest.mark.parametrize("benchmark", [AIME_2024, AIME_2025, GSM8K], ids=lambda benchmark: benchmark.name)
def test_other_whole_numbers_are_wrong(problems, pool, benchmark):
    """In sets of plain numbers every other reference of the set is wrong, and so is the number beside."""
    golds = golds_of(problems, [benchmark])
    pairs = [*itertools.pairwise(golds), *((b, a) for a, b in itertools.pairwise(golds))]
    pairs += [(gold, str(float(gold) + 1)) for gold in golds]
    responses = [rf"</think>\boxed{{{answer}}}" for _, answer in pairs]
    verdicts = pool.verify_all(benchmark.make_verifier(True), responses, [gold for gold, _ in pairs])
    assert len(pairs) > 50
    assert [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.correct] == []


def test_neighbouring_real_references_are_told_apart(problems, pool):
    pairs = list(itertools.pairwise(golds_of(problems, [MATH_500, OLYMMATH, OMNI_MATH])))
    verdicts = pool.verify_all(MathVerifier(), [rf"\boxed{{{b}}}" for _, b in pairs], [a for a, _ in pairs])
    assert {pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.correct} == TRUE_EQUALS
    assert {verdict.status for verdict in verdicts} <= {"ok", "no_answer"}


def test_real_references_are_found_equal_by_value_and_not_only_as_strings(problems, pool):
    expressions = []
    for gold in golds_of(problems, [MATH_500, OLYMMATH, OMNI_MATH]):
        normal = normal_form(reference_forms(gold)[0])
        plain = isinstance(parse_structure(normal), Expression) and not re.search(r"_\{?\d|\\begin", normal)
        if plain and not NOT_EVALUATED.search(gold):
            expressions.append((gold, rf"</think>\boxed{{0+{normal}}}"))
    assert len(expressions) > 900
    references, responses = zip(*expressions, strict=True)
    verdicts = pool.verify_all(MathVerifier(thinking=True), responses, references)
    assert [gold for gold, verdict in zip(references, verdicts, strict=True) if not verdict.correct] == []


@pytest.mark.parametrize(("benchmark", "step"), [(MATH_500, 2), (OLYMMATH, 1), (OMNI_MATH, 8)])
def test_math_verify_agrees_on_neighbours_and_other_spellings(problems, benchmark, step):
    math_verify = pytest.importorskip("math_verify")
    parse = {"parsing_timeout": None}
    fractional = [
        gold
        for gold in golds_of(problems, [benchmark])
        if not re.fullmatch(r"-?\d+", gold)
        and not re.search(r"_\{?\d|[a-z]{3,}\s+[a-z]{2,}", re.sub(r"\\[a-zA-Z]+", "", gold))
        and gold.count("{") == gold.count("}")
    ]
    pairs = list(itertools.pairwise(fractional))[::step]
    pairs += [(gold, gold.replace(r"\frac{", r"\dfrac {").replace("+", " + ")) for gold in fractional[::step]]
    assert len(pairs) > 150
    for gold, answer in pairs:
        theirs = math_verify.verify(
            math_verify.parse(f"${gold}$", **parse),
            math_verify.parse(rf"$\boxed{{{answer}}}$", **parse),
            timeout_seconds=None,
        )
        assert math_equivalent(gold, answer) == theirs, (gold, answer)


def test_512_answers_take_seconds(problems, pool):
    distinct = golds_of(problems, [MATH_500, OLYMMATH, OMNI_MATH])
    golds = [gold for gold in distinct if not re.fullmatch(r"-?\d+", gold) and "{" in gold][:640:10]
    spellings = ["{}", "0+{}", "{}-1", r"\frac{{1}}{{2}}+{}", "2({})", "{}+0", r"{} \cdot 1", "-({})"]
    references = [gold for gold in golds for _ in spellings]
    responses = [rf"\boxed{{{s.format(normal_form(gold))}}}" for gold in golds for s in spellings]
    assert len(responses) == 512
    started = time.monotonic()
    verdicts = pool.verify_all(MathVerifier(), responses, references)
    elapsed = time.monotonic() - started
    assert sum(verdict.correct for verdict in verdicts) > 64
    assert elapsed < 20.0  # 1.5 s on two quiet cores (benchmarks/verify_answers.py); room for a busy machine
