import pytest

from phi4r.curation.item import Item
from phi4r.curation.stage import ItemStage
from phi4r.curation.teaching.solutions import SolutionsSettings, SolutionsStage
from phi4r.errors import UserError
from phi4r.evals.specs import load_task

CHAIN = Item(
    "sft/1",
    "chain 7 +3 *9 -4 =",
    "6",  # 7 + 3 = 10, so 0; 0 * 9 = 0; 0 - 4 = -4, so 6
    source="sft",
    meta={"num_ops": 3, "seeds": {"task": "chains:train?num=1&min_ops=3&max_ops=3"}},
)
MAZE = Item(  # along the x from S to E: down, down, right, which is one turn
    "mazes/1",
    "turns\n..S#.\n.#x#.\n.#x#.\n.#x#.\n.#xxE",
    '{"letter": "D", "options": ["3", "4", "2", "1"]}',
    source="mazes",
    meta={"question": "turns", "wording": "short", "size": 3, "path_length": 3, "seeds": {"task": "maze?size=3"}},
)
WRITTEN = Item("hand/1", "What is 2 + 2?", "4", "Two and two.", "It is 4.", source="hand")  # of a file
BENCHMARK = Item("math/1", "What is 2 + 2?", "4", source="math", meta={"seeds": {"task": "math500"}})


def solve(*items, **settings):
    return SolutionsStage(SolutionsSettings(**settings))(items)


def judged(outcome, task: str) -> bool:
    item = outcome.item
    return load_task(task).verifier(f"<think>{item.thought}</think>{item.solution}", item.answer).correct


def test_it_is_a_stage():
    assert isinstance(SolutionsStage(SolutionsSettings()), ItemStage) and solve() == []


def test_the_thought_of_a_chain_has_every_operation_and_the_value_after_it():
    (outcome,) = solve(CHAIN)
    assert outcome.kept
    assert (outcome.item.thought, outcome.item.solution) == (" +3 0 *9 0 -4 6", "\\boxed{6}")
    assert judged(outcome, "chains:train?num=1&min_ops=3&max_ops=3")
    assert (outcome.item.id, outcome.item.answer, outcome.item.meta) == ("sft/1", "6", CHAIN.meta)


def test_a_maze_is_walked_and_its_answer_stays_what_the_verifier_reads():
    (outcome,) = solve(MAZE)
    assert outcome.kept and outcome.item.solution == "\\boxed{1}"
    assert outcome.item.thought == "0,1 d1,1 0 d2,1 0 r2,2 1"  # row, column of each cell; the turns so far
    assert outcome.item.answer == MAZE.answer and judged(outcome, "maze?size=3&wording=short&num=1")


def test_items_without_a_solver_pass_untouched():
    outcomes = solve(WRITTEN, CHAIN, BENCHMARK)
    assert all(outcome.kept for outcome in outcomes)
    assert [outcome.item for outcome in outcomes[::2]] == [WRITTEN, BENCHMARK]
    assert outcomes[1].item.solution


def test_where_sources_are_named_these_must_be_solved_and_others_are_left():
    chain, maze, written = solve(CHAIN, MAZE, WRITTEN, sources=("sft", "hand"))
    assert chain.item.solution == "\\boxed{6}"
    assert maze.kept and maze.item == MAZE
    assert written.failed and written.reason == "no task with a solver" and written.item == WRITTEN


def test_a_prompt_that_is_none_of_the_task_is_quarantined():
    other = Item("sft/2", "chain seven", "6", source="sft", meta=CHAIN.meta)
    (outcome,) = solve(other)
    assert outcome.failed and outcome.reason == "the solver cannot read it"


def test_no_items_at_a_time_are_refused():
    with pytest.raises(UserError, match=r"solutions.batch_size=0 must be at least 1"):
        SolutionsSettings(batch_size=0)
