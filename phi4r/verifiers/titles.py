r"""The verifier of Kitab: a list of book titles against the books of an author that satisfy a request.

A title is matched to a book in this order: equal normal forms; one is the main title (before a colon, a dash, a
bracket or ", or") of the other; similar normal forms with the same numbers (Dice's coefficient of their character pairs
at least 0.8, the best book wins). The normal form has small letters without accents, "and" for "&", no punctuation, no
article in front and no year at the end. No network, no model: what satisfies the constraints is what the data says.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from phi4r.verifiers.answers import END_OF_THOUGHT
from phi4r.verifiers.verdict import Verdict, failed, judged

_MAX_TITLES = 500  # nobody in the data has written as many books
_MAX_TITLE_LENGTH = 300
_SIMILAR = 0.8
_PARTS = ("satisfied", "unsatisfied", "not_from_author", "completeness", "all_correct")

_OUTPUT = re.compile(r"^[ \t#>*_]*output[ \t*_]*:[ \t*_]*(.*)$", re.IGNORECASE | re.MULTILINE)
_ITEM = re.compile(r"[ \t>]*(?:\d{1,4}[.)]|[-*\u2022])[ \t]+(.*)")
_TITLE = re.compile(r"(?<![^\W_])title[ \t*_]*:", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
_YEAR = re.compile(r"\(\s*\d{3,4}\s*\)\s*$")
_MAIN = re.compile(r"[:;(\[\u2013\u2014]|\s-\s|,\s+or\b", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:the|an|a)\s+(?=\S)")
_NOT_A_TITLE = frozenset(["none", "no books", "no such books", "na"])


@dataclass(frozen=True)
class TitlesVerifier:
    """Judges a list of titles; `correct` if it has every book that satisfies the request, and nothing else.

    The reference is JSON: {"satisfying": titles, "others": titles of the author that do not satisfy, "ignored": titles
    of the author of which it is not known}. Titles of one book are one, ignored ones are left out. `parts` has

        satisfied, unsatisfied, not_from_author  shares of the titles; they sum to 1, and all are 0 for an empty list
        completeness                             share of the satisfying books that is named
        all_correct                              1.0 if correct

    An empty list is right, with satisfied and completeness 1, where no book satisfies; otherwise it scores 0. A
    response without a list has all parts 0. `score` is satisfied times completeness.

    Attributes:
      thinking: whether the model thinks first; then a response without `</think>` was cut off and has no answer.
    """

    thinking: bool = False

    def __call__(self, response: str, reference: str) -> Verdict:
        """Returns the verdict; a reference that is not of that form is an "error"."""
        try:
            shelves = _read(reference)
            titles = listed_titles(response, thinking=self.thinking)
            if titles is None:
                return Verdict(False, 0.0, None, "no_answer", dict.fromkeys(_PARTS, 0.0))
            parts = _judge(titles, *shelves)
        except Exception:  # a verifier never raises: whatever broke is reported as an error of the judge
            return failed("error")
        score = parts["satisfied"] * parts["completeness"]
        return judged("\n".join(titles), parts["all_correct"] == 1.0, score=score, parts=parts)


def listed_titles(response: str, *, thinking: bool = False) -> list[str] | None:
    """Returns the titles of the list that ends a response, or None where there is no list.

    The list follows the last line "Output:"; where there is none, it is made of all items with "Title:". An item begins
    with a number or a bullet; its title follows its last "Title:", or is all of it. The line "None" is an empty list.
    """
    _, closed, solution = response.rpartition(END_OF_THOUGHT)
    if thinking and not closed:
        return None
    outputs = list(_OUTPUT.finditer(solution))
    if not outputs:
        titles = [title for title in map(_marked_title, solution.split("\n")) if title]
        return titles[:_MAX_TITLES] or None
    titles = []
    for line in [outputs[-1].group(1), *solution[outputs[-1].end() :].split("\n")]:
        item = _ITEM.fullmatch(line)
        title = _marked_title(line) or (_bare(item.group(1)) if item else "")
        if title and _normal(title) not in _NOT_A_TITLE:
            titles.append(title)
    return titles[:_MAX_TITLES]


@dataclass(frozen=True)
class _Book:
    """A title in the forms that are compared, and whether the book satisfies (None: not known)."""

    normal: str
    main: str
    pairs: frozenset[str]
    numbers: tuple[str, ...]
    satisfies: bool | None

    @classmethod
    def of(cls, title: str, satisfies: bool | None) -> "_Book":
        normal = _normal(title)
        return cls(normal, _main(title), _pairs(normal), tuple(_NUMBER.findall(normal)), satisfies)


def _read(reference: str) -> tuple[list[_Book], int]:
    """Returns the author's books, those that satisfy first, and how many these are."""
    row = json.loads(reference)
    books: dict[str, _Book] = {}
    for key, satisfies in (("satisfying", True), ("others", False), ("ignored", None)):
        for title in row[key]:
            book = _Book.of(title, satisfies)
            books.setdefault(book.normal, book)
    return list(books.values()), sum(book.satisfies is True for book in books.values())


def _judge(titles: Sequence[str], books: Sequence[_Book], num_satisfying: int) -> dict[str, float]:
    """Returns the parts of the verdict on a list."""
    found, strangers = set(), set()
    known = [book for book in books if book.satisfies is not None]
    ignored = [book for book in books if book.satisfies is None]
    for title in titles:
        book = _match(title, known) or _match(title, ignored)
        if book is None:
            strangers.add(_normal(title))
        elif book.satisfies is not None:
            found.add(book)
    satisfied = sum(book.satisfies for book in found)
    number = len(found) + len(strangers)
    if number == 0:
        right = float(num_satisfying == 0)
        return dict(zip(_PARTS, (right, 0.0, 0.0, right, right), strict=True))
    completeness = satisfied / num_satisfying if num_satisfying else 1.0
    all_correct = float(satisfied == number and completeness == 1.0)
    shares = (satisfied / number, (len(found) - satisfied) / number, len(strangers) / number)
    return dict(zip(_PARTS, (*shares, completeness, all_correct), strict=True))


def _match(title: str, books: Sequence[_Book]) -> _Book | None:
    """Returns the book that a title names, or None."""
    wanted = _Book.of(title, None)
    for book in books:
        if book.normal == wanted.normal:
            return book
    for book in books:
        if book.main == wanted.main and wanted.main in (book.normal, wanted.normal):
            return book
    best = max(books, key=lambda book: _similarity(book, wanted), default=None)
    return best if best and _similarity(best, wanted) >= _SIMILAR else None


def _marked_title(line: str) -> str:
    """Returns what follows the last "Title:" of a line, empty if there is none."""
    marks = list(_TITLE.finditer(line))
    return _bare(line[marks[-1].end() :]) if marks else ""


def _bare(title: str) -> str:
    """Returns a title without its year, and without the quotes and stars around it."""
    title = title[:_MAX_TITLE_LENGTH].strip(" \t*_\"'\u201c\u201d")
    return _YEAR.sub("", title).strip(" \t\r*_\"'\u201c\u201d.")


def _normal(title: str) -> str:
    title = _YEAR.sub("", title[:_MAX_TITLE_LENGTH].strip())
    letters = unicodedata.normalize("NFKD", title).casefold().replace("&", " and ").replace("-", " ")
    kept = "".join(character for character in letters if character.isalnum() or character.isspace())
    return _ARTICLE.sub("", " ".join(kept.split()))


def _main(title: str) -> str:
    """Returns the normal form of the title without its subtitle; of the whole where nothing precedes the subtitle."""
    return _normal(_MAIN.split(title[:_MAX_TITLE_LENGTH], maxsplit=1)[0]) or _normal(title)


def _pairs(normal: str) -> frozenset[str]:
    padded = f" {normal} "
    return frozenset(padded[index : index + 2] for index in range(len(padded) - 1))


def _similarity(book: _Book, other: _Book) -> float:
    """Returns Dice's coefficient of the character pairs of two titles, 0 where their numbers differ."""
    if book.numbers != other.numbers:
        return 0.0
    return 2 * len(book.pairs & other.pairs) / (len(book.pairs) + len(other.pairs))
