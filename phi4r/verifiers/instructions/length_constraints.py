"""Instructions about the length of a response."""

import re

from phi4r.verifiers.instructions.arguments import Arguments, Check
from phi4r.verifiers.instructions.sentences import num_sentences

_WORD = re.compile(r"\w+")
_DIVIDER = re.compile(r"\*\*\*")
_QUOTES = "\"'\u201c\u201d\u2018\u2019"
_FIRST_WORD = re.compile(r"[^\W_]++(?:-[^\W_]++)*+")


def number_sentences(arguments: Arguments) -> Check:
    """There are at least, or less than, `num_sentences` sentences.

    compat: the number of a list item ("1.") is a sentence of its own.
    """
    enough = arguments.limit("num_sentences", "relation")
    return lambda text: enough(num_sentences(text, items=arguments.compat))


def number_words(arguments: Arguments) -> Check:
    """There are at least, or less than, `num_words` words: runs of letters, digits and underscores ("don't" is two)."""
    enough = arguments.limit("num_words", "relation")
    return lambda text: enough(sum(1 for _ in _WORD.finditer(text)))


def number_paragraphs(arguments: Arguments) -> Check:
    """There are exactly `num_paragraphs` paragraphs with `***` between them; none of them is empty.

    A divider before the first or after the last paragraph is allowed.
    """
    number = arguments.count("num_paragraphs")

    def check(text: str) -> bool:
        filled = [bool(paragraph.strip()) for paragraph in _DIVIDER.split(text)]
        return all(filled[1:-1]) and sum(filled) == number

    return check


def nth_paragraph_first_word(arguments: Arguments) -> Check:
    """There are exactly `num_paragraphs` paragraphs, and number `nth_paragraph` begins with `first_word`.

    Paragraphs have two line breaks between them; the case of the word does not matter, nor do quotes before it.

    compat: empty paragraphs (three or four line breaks) count when the n-th is looked for though not in the total, and
    of the signs that may follow the word only . , ? ! ' and " are known ("word:" is another word).
    """
    number, nth = arguments.count("num_paragraphs"), arguments.count("nth_paragraph")
    wanted = arguments.text("first_word").lower()
    if not 1 <= nth <= number:
        raise arguments.malformed("nth_paragraph", f"from 1 to num_paragraphs={number}")

    def check(text: str) -> bool:
        paragraphs = text.split("\n\n")
        filled = [paragraph.strip() for paragraph in paragraphs if paragraph.strip()]
        if len(filled) != number:
            return False
        if not arguments.compat:
            return _first_word(filled[nth - 1]) == wanted
        paragraph = paragraphs[nth - 1].strip()
        return bool(paragraph) and _published_first_word(paragraph) == wanted

    return check


def _first_word(paragraph: str) -> str:
    word = _FIRST_WORD.match(paragraph.lstrip(_QUOTES))
    return word.group().lower() if word else ""


def _published_first_word(paragraph: str) -> str:
    word = paragraph.split(maxsplit=1)[0].lstrip("'").lstrip('"')
    return re.split("[.,?!'\"]", word, maxsplit=1)[0].lower()
