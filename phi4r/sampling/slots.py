"""Which sequence lives in which slot and in which pages: the books that the host keeps of one part of the batch.

A prompt is prefilled once for all its samples. Each sample that begins shares the full pages of the prompt, and has a
copy of the last, partial one, in which it will write; the last sample takes that page itself. Pages are given out as
sequences grow. Where none is left, the sequence that began last loses its slot and its pages; what it has drawn is
kept, and it begins again later as a prompt of its own, to the same end: its random keys know nothing of slots.
"""

import array
import collections
import dataclasses

import numpy as np

from phi4r.typing import Array


@dataclasses.dataclass(eq=False)
class Response:
    """One response that is being drawn."""

    row: int  # number of the response in the batch
    prompt: list[int]
    key: Array  # [2] uint32
    limit: int  # most tokens of the response
    response: array.array = dataclasses.field(default_factory=lambda: array.array("i"))  # of ints, and numpy reads it
    logprobs: list[np.ndarray] = dataclasses.field(default_factory=list)  # of each burst
    entropies: list[np.ndarray] = dataclasses.field(default_factory=list)
    thinking: bool = True
    stopped: bool = False
    pages: list[int] = dataclasses.field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens in pages while it runs: all but the newest, which the model has not yet seen."""
        return len(self.prompt) + len(self.response) - 1

    @property
    def next_token(self) -> int:
        """The token that the model sees next."""
        return self.response[-1] if self.response else self.prompt[-1]


@dataclasses.dataclass(eq=False)
class Group:
    """Responses that begin with the same tokens, which are prefilled once."""

    tokens: list[int]  # what is prefilled: all that the members have in common but the last token
    members: collections.deque[Response]
    pages: list[int] = dataclasses.field(default_factory=list)
    filled: int = 0  # tokens in pages

    @property
    def ready(self) -> bool:
        """Whether all of it is in pages."""
        return self.filled == len(self.tokens)


class PagePool:
    """Free pages, and how many sequences read each of the others; page 0 is nobody's."""

    def __init__(self, num_pages: int, page_size: int):
        self.page_size = page_size
        self._free = list(range(num_pages - 1, 0, -1))
        self._readers = np.zeros(num_pages, np.int32)

    @property
    def num_free(self) -> int:
        """Pages that can be taken."""
        return len(self._free)

    def needed(self, num_tokens: int) -> int:
        """Returns how many pages hold so many tokens."""
        return -(-num_tokens // self.page_size)

    def take(self, count: int) -> list[int]:
        """Returns free pages; there must be enough."""
        pages = [self._free.pop() for _ in range(count)]
        self._readers[pages] = 1
        return pages

    def share(self, pages: list[int]) -> list[int]:
        """Returns the same pages, with one reader more."""
        self._readers[pages] += 1
        return list(pages)

    def release(self, pages: list[int]) -> None:
        """Takes a reader from each; those that have none are free again."""
        self._readers[pages] -= 1
        self._free.extend(page for page in reversed(pages) if not self._readers[page])


class Books:
    """The slots and pages of one part of the batch, and the groups that wait for them."""

    def __init__(self, *, num_slots: int, num_pages: int, page_size: int):
        """All slots and pages are free.

        Args:
          num_slots: sequences that may run at a time.
          num_pages: of the pool, page 0 included: enough for one sequence of full length.
          page_size: tokens of a page.
        """
        self.pool = PagePool(num_pages, page_size)
        self.num_slots = num_slots
        self.running: list[Response] = []  # in the order in which they began
        self.groups: list[Group] = []  # that have pages, and members that wait
        self.evicted: collections.deque[Group] = collections.deque()
        self.num_evictions = 0

    @property
    def wants_more(self) -> bool:
        """Whether a slot will be free when all that wait here have begun."""
        return len(self.running) + sum(len(group.members) for group in self.groups) < self.num_slots

    def admit(self, group: Group) -> bool:
        """Gives a group the pages of its prompt; returns False where there are not enough."""
        # One more page for each sequence that runs, so that a prompt does not at once push one of them out.
        needed = self.pool.needed(len(group.tokens))
        if self.pool.num_free < needed + (len(self.running) + 1 if self.running or self.groups else 0):
            return False
        group.pages = self.pool.take(needed)
        self.groups.append(group)
        return True

    def unfilled(self, count: int) -> list[Group]:
        """Returns the first groups whose prompt is not yet in pages."""
        return [group for group in self.groups if not group.ready][:count]

    def begin(self) -> list[tuple[int, int]]:
        """Lets members of ready groups run, while there are slots and pages; returns the (page, copy) to be made."""
        copies: list[tuple[int, int]] = []
        for group in list(self.groups):
            while group.ready and group.members and len(self.running) < self.num_slots:
                if len(group.members) > 1 and not self.pool.num_free:
                    if self.running or self.groups[-1] is group:
                        return copies
                    self._evict_group()
                    continue
                sequence = group.members.popleft()
                full = len(group.tokens) // self.pool.page_size
                if not group.members:
                    sequence.pages = group.pages
                    self.groups.remove(group)
                else:
                    sequence.pages = self.pool.share(group.pages[:full])
                    if len(group.pages) > full:
                        (copy,) = self.pool.take(1)
                        copies.append((group.pages[full], copy))
                        sequence.pages.append(copy)
                self.running.append(sequence)
        return copies

    def grow(self, num_steps: int) -> None:
        """Gives every running sequence the pages of its next `num_steps` tokens, if need be those of younger ones."""
        for sequence in list(self.running):
            last = min(sequence.length + num_steps, len(sequence.prompt) + sequence.limit)
            missing = max(0, self.pool.needed(last) - len(sequence.pages))
            while sequence in self.running and missing > self.pool.num_free:
                self._evict_youngest()
            if sequence in self.running:
                sequence.pages += self.pool.take(missing)

    def finish(self, sequence: Response) -> None:
        """Frees the slot and the pages of a sequence."""
        self.running.remove(sequence)
        self.pool.release(sequence.pages)
        sequence.pages = []

    def _evict_youngest(self) -> None:
        """Frees the pages of what came last: a prompt whose samples wait, or else a running sequence."""
        if self.groups:
            self._evict_group()
            return
        youngest = self.running[-1]
        self.finish(youngest)
        known = [*youngest.prompt, *youngest.response]
        self.evicted.appendleft(Group(known[:-1], collections.deque([youngest])))
        self.num_evictions += 1

    def _evict_group(self) -> None:
        """Frees the pages of the prompt that came last; it is prefilled again later."""
        group = self.groups.pop()
        self.pool.release(group.pages)
        group.pages, group.filled = [], 0
        self.evicted.appendleft(group)
