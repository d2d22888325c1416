import pytest

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.tasks import Task
from phi4r.verifiers import IntegerVerifier, MathVerifier


def test_a_task_needs_problems_with_distinct_ids():
    with pytest.raises(UserError, match="no problems"):
        Task("empty", (), IntegerVerifier())
    with pytest.raises(UserError, match="2 problems with the id 'b'"):
        Task("twice", tuple(Problem(i, "?", "1") for i in "abcb"), IntegerVerifier())


@pytest.mark.parametrize("field", ["id", "prompt", "answer"])
def test_the_digest_changes_with_whatever_is_asked(field):
    row = {"id": "a", "prompt": "1 + 1", "answer": "2"}
    one, other = (Task("t", (Problem(**r),), IntegerVerifier()) for r in (row, {**row, field: "3"}))
    assert one.digest() != other.digest()
    assert one.digest() == Task("another name", (Problem(**row),), MathVerifier()).digest()
