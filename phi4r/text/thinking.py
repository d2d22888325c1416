"""The think block of a response: where the thought ends, and whether the block is well formed.

Section 4.1 of the paper punishes a missing or misused block. It is judged on text, for verdicts on the host, and on
ids, where nothing has to be decoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from phi4r.text.tokenizer import END_THINK, THINK


@dataclass(frozen=True)
class ResponseParts:
    """A response in its two sections.

    Attributes:
      thought: what stands in the think block; empty where the response opens none.
      solution: what follows it; empty while the thought is unfinished.
    """

    thought: str
    solution: str


def split_response(text: str) -> ResponseParts:
    """Splits a response after its last `</think>`.

    A response that opens a thought and never closes it is all thought; one without tags is all solution, so that
    answers of a model that does not think can be scored as well.
    """
    before, end, solution = text.rpartition(END_THINK)
    if end:
        head, start, thought = before.partition(THINK)
        return ResponseParts(thought if start else head, solution)
    head, start, thought = text.partition(THINK)
    return ResponseParts(thought, "") if start else ResponseParts("", text)


def think_format_ok(text: str) -> bool:
    """Whether `text` holds exactly one `<think>` and exactly one `</think>`, in this order."""
    return _once_each_in_order(text, THINK, END_THINK)


def think_format_ok_ids(ids: Sequence[int], *, think_id: int, end_think_id: int) -> bool:
    """Whether the response `ids` [T] hold exactly one `think_id` and one `end_think_id`, in this order.

    This is the stricter judge: a tag that the model spells letter by letter is no tag.
    """
    return _once_each_in_order(list(ids), think_id, end_think_id)


def _once_each_in_order(response: str | list[int], think: str | int, end_think: str | int) -> bool:
    if response.count(think) != 1 or response.count(end_think) != 1:
        return False
    return response.index(think) < response.index(end_think)
