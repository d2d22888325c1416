import json

import pytest

from phi4r.curation.item import Item, item_id
from phi4r.data.records import Problem, Trace
from phi4r.errors import UserError

ITEM = Item("s/1", "What is 2 + 3?", "5", "two and three", "It is 5.", "s", "MIT", "math", {"row": {"level": 2}})


def test_an_item_comes_back_from_its_row():
    assert Item.from_dict(json.loads(json.dumps(ITEM.to_dict()))) == ITEM
    assert Item.from_dict({"id": "a", "prompt": "p"}) == Item("a", "p")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "a", "prompt": "p", "promt": "p"}, "f.jsonl:3 has the unknown field 'promt'"),
        ({"id": "", "prompt": "p"}, "f.jsonl:3 has no id"),
        ({"id": "a"}, "f.jsonl:3 has no prompt"),
        ({"id": "a", "prompt": "p", "answer": 5}, "f.jsonl:3: 'answer' must be text, not int"),
        ({"id": "a", "prompt": "p", "meta": []}, "f.jsonl:3: 'meta' must be an object with keys, not list"),
    ],
)
def test_a_row_that_is_no_item_is_named(row, message):
    with pytest.raises(UserError, match=message):
        Item.from_dict(row, where="f.jsonl:3")


def test_what_stages_find_out_stands_under_their_names_and_nothing_is_overwritten():
    noted = ITEM.noted("screens", words=4).noted("screens", language="en").noted("rubric", steps=2)
    assert noted.meta == {"row": {"level": 2}, "screens": {"words": 4, "language": "en"}, "rubric": {"steps": 2}}
    assert ITEM.meta == {"row": {"level": 2}}


def test_an_item_is_a_problem_and_a_trace_with_its_origin():
    origin = {"source": "s", "licence": "MIT", "domain": "math", "row": {"level": 2}}
    assert ITEM.problem() == Problem("s/1", "What is 2 + 3?", "5", origin)
    assert ITEM.trace() == Trace("s/1", "What is 2 + 3?", "two and three", "It is 5.", "5", origin)


def test_an_item_without_answer_is_no_problem_and_one_without_solution_no_trace():
    with pytest.raises(UserError, match="item a has no answer"):
        Item("a", "p").problem()
    with pytest.raises(UserError, match="item a has no solution"):
        Item("a", "p", answer="5").trace()


def test_an_id_depends_on_source_and_prompt_alone():
    # printf 's\np' | sha256sum | cut -c-16
    assert item_id("s", "p") == "2f80f9fc79436a28"
    assert len({item_id("s", "p"), item_id("t", "p"), item_id("s", "q")}) == 3
