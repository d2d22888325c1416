from collections import Counter

import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.loading import load_benchmark
from phi4r.evals.benchmarks.omni_math import OMNI_MATH, OMNI_MATH_FULL, rule_checkable

ROW = {
    "domain": ["Mathematics -> Algebra -> Intermediate Algebra -> Inequalities", "Mathematics -> Number Theory"],
    "difficulty": 5.25,
    "problem": "Find the minimum.",
    "solution": "...",
    "answer": r"\frac{1}{2}",
    "source": "usamo",
}


def test_a_row_of_the_hub_becomes_a_problem_with_its_groups():
    problem = OMNI_MATH.read(ROW, "f:1")
    assert problem.answer == r"\frac{1}{2}"
    assert problem.meta == {"domain": "Algebra", "difficulty": 5, "rating": 5.25, "source": "usamo"}


@pytest.mark.parametrize(
    ("domain", "expected"),
    [([], "Other"), (None, "Other"), (["Mathematics -> Calculus"], "Calculus"), (["Other"], "Other"), ("A -> B", "A")],
)
def test_the_domain_is_the_field_of_mathematics(domain, expected):
    assert OMNI_MATH.read({**ROW, "domain": domain}, "f:1").meta["domain"] == expected


@pytest.mark.parametrize(
    ("answer", "checkable"),
    [
        ("7", True),
        (r"\lceil \log_2 n \rceil", True),
        (r"\text{Cathy}", True),
        (r"f(x) = 2x \text{ or } f(x) = 0", True),
        (r"The smallest possible value of \(a_{10}\) is \(248\).", True),
        (r"\frac{5055}{2^{15}", True),
        (r"f(x, y) = C \text{ for some constant } C \in [0, 1]", False),
        ("All primes that divide the number of vertices", False),
        ("x" * 151, False),
    ],
)
def test_references_that_a_rule_can_judge_are_short_and_no_prose(answer, checkable):
    assert rule_checkable(answer) is checkable
    assert (OMNI_MATH.read({**ROW, "answer": answer}, "f:1") is not None) is checkable
    assert OMNI_MATH_FULL.read({**ROW, "answer": answer}, "f:1").answer == answer


@pytest.mark.parametrize(
    "change",
    [
        {"difficulty": "hard"},
        {"difficulty": None},
        {"difficulty": True},
        {"answer": 5},
        {"answer": None},
        {"answer": ""},
        {"problem": ""},
    ],
)
def test_malformed_rows_are_refused(change):
    with pytest.raises(UserError, match="f:1"):
        OMNI_MATH.read({**ROW, **change}, "f:1")


def test_a_judge_looks_at_what_the_rules_did_not_find_right_in_the_full_set_alone():
    assert (OMNI_MATH.judge, OMNI_MATH_FULL.judge) == ("", "equivalence")


def test_the_published_subset_is_read_whole(shared_data):
    problems, malformed = load_benchmark(OMNI_MATH, str(shared_data / "omni_math_rule"))
    assert (len(problems), malformed) == (2821, ())
    assert sum(p.id.endswith("-2") for p in problems) == 5  # five problems are in it twice
    domains = Counter(p.meta["domain"] for p in problems)
    assert (domains["Algebra"], domains["Geometry"], domains["Other"]) == (904, 581, 1)
    assert set(Counter(p.meta["difficulty"] for p in problems)) == set(range(1, 10))
