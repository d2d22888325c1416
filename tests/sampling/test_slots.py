"""The books of slots and pages, by hand."""

import collections

import numpy as np
import pytest

from phi4r.sampling.slots import Books, Group, PagePool, Response


def response(row=0, prompt=(1, 2, 3), limit=8, drawn=0):
    return Response(row, list(prompt), np.zeros(2, np.uint32), limit, response=[9] * drawn)


def group(prompt, members, limit=8):
    prompt = list(prompt)
    return Group(prompt[:-1], collections.deque(response(row, prompt, limit) for row in range(members)))


def ready(books, added):
    """Admits a group and calls its prompt filled."""
    assert books.admit(added)
    added.filled = len(added.tokens)
    return added


def test_a_page_is_free_again_when_its_last_reader_has_gone():
    pool = PagePool(4, page_size=2)
    pages = pool.take(2)
    assert pool.num_free == 1 and 0 not in pages
    shared = pool.share(pages[:1])
    pool.release(pages)
    assert pool.num_free == 2
    pool.release(shared)
    assert pool.num_free == 3
    assert sorted(pool.take(3)) == [1, 2, 3]


@pytest.mark.parametrize(("tokens", "pages"), [(0, 0), (1, 1), (4, 1), (5, 2)])
def test_tokens_need_whole_pages(tokens, pages):
    assert PagePool(9, page_size=4).needed(tokens) == pages


def test_samples_share_full_pages_and_copy_the_partial_one_which_the_last_takes():
    """A prompt of 11 tokens: 10 are prefilled, in pages of 4: two full ones and one of 2 tokens."""
    books = Books(num_slots=4, num_pages=20, page_size=4)
    prompt = ready(books, group(range(11), members=3)).pages
    copies = books.begin()
    first, second, third = (sequence.pages for sequence in books.running)
    assert first[:2] == second[:2] == third[:2] == prompt[:2]
    assert copies == [(prompt[2], first[2]), (prompt[2], second[2])]
    assert third[2] == prompt[2]
    assert len({first[2], second[2], third[2]}) == 3
    assert books.pool.num_free == 19 - 5
    for sequence in list(books.running):
        books.finish(sequence)
    assert books.pool.num_free == 19


def test_a_prompt_of_whole_pages_is_shared_without_a_copy():
    books = Books(num_slots=4, num_pages=20, page_size=5)
    ready(books, group(range(11), members=3))
    assert books.begin() == [] and books.pool.num_free == 17


def test_members_wait_for_slots_and_the_first_group_goes_first():
    books = Books(num_slots=3, num_pages=30, page_size=4)
    first, second = ready(books, group(range(5), members=2)), group(range(9), members=2)
    assert books.wants_more
    ready(books, second)
    assert not books.wants_more
    books.begin()
    assert [len(sequence.prompt) for sequence in books.running] == [5, 5, 9]
    assert first not in books.groups and len(second.members) == 1
    books.finish(books.running[0])
    books.begin()
    assert [len(sequence.prompt) for sequence in books.running] == [5, 9, 9] and not books.groups


def test_a_prompt_that_is_not_filled_does_not_begin():
    books = Books(num_slots=3, num_pages=30, page_size=4)
    waiting = group(range(9), members=1)
    books.admit(waiting)
    assert books.begin() == [] and not books.running and books.unfilled(5) == [waiting]
    waiting.filled = 8
    books.begin()
    assert len(books.running) == 1 and books.unfilled(5) == []


def test_sequences_get_pages_as_they_grow_and_none_beyond_their_limit():
    """Of a prompt of 3 tokens 2 are in a page of 4; 3 more steps need a second page, and 3 + 8 tokens three in all."""
    books = Books(num_slots=1, num_pages=9, page_size=4)
    ready(books, group(range(3), members=1))
    books.begin()
    (sequence,) = books.running
    for steps, pages in [(2, 1), (3, 2), (100, 3)]:
        books.grow(steps)
        assert len(sequence.pages) == pages


def test_where_pages_run_out_the_youngest_waits_with_all_it_has_drawn():
    """Five pages of 4: two sequences of 7 tokens in pages (2 each) and room for one page more."""
    books = Books(num_slots=2, num_pages=6, page_size=4)
    for row in range(2):
        added = Group([1, 2], collections.deque([response(row, (1, 2, 3), limit=20)]))
        ready(books, added)
    books.begin()
    for sequence in books.running:
        sequence.response = [7, 8, 9, 7, 8]  # 3 + 5 - 1 = 7 tokens in pages
    books.grow(1)
    assert [len(sequence.pages) for sequence in books.running] == [2, 2]
    books.grow(4)  # 11 tokens: a third page for each, of which there is one
    old = books.running[0]
    assert books.running == [old] and old.row == 0 and len(old.pages) == 3
    (waiting,) = books.evicted
    assert waiting.tokens == [1, 2, 3, 7, 8, 9, 7] and waiting.members[0].response == [7, 8, 9, 7, 8]
    assert books.num_evictions == 1 and books.pool.num_free == 2


def test_prompts_that_wait_lose_their_pages_before_sequences_that_run():
    books = Books(num_slots=1, num_pages=7, page_size=4)
    ready(books, group(range(3), members=1, limit=30))
    books.begin()
    waiting = group(range(9), members=1)
    assert books.admit(waiting) and books.pool.num_free == 3
    books.grow(20)  # 22 tokens: 6 pages
    assert len(books.running) == 1 and list(books.evicted) == [waiting] and waiting.filled == 0
    assert books.num_evictions == 0 and books.pool.num_free == 0


def test_a_prompt_is_admitted_only_where_running_sequences_can_grow():
    books = Books(num_slots=3, num_pages=6, page_size=4)
    ready(books, group(range(5), members=1))
    books.begin()
    assert not books.admit(group(range(17), members=1))  # 4 pages, and one each for two sequences: of 4 that are free
    assert books.admit(group(range(9), members=1))
