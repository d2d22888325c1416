"""How many sentences a text has, without a learned model.

The published scorer asks the Punkt tokenizer of NLTK, trained on English. This rule gives the same counts on normal
prose: a sentence ends with `.`, `!` or `?`, closing quotes or brackets may follow, and then a blank. A full stop does
not end one after an abbreviation or an initial, unless a word follows that commonly begins a sentence, nor do dots
before a small letter. Line breaks are blanks: a heading without a stop belongs to the sentence after it.
"""

import re
from collections.abc import Iterator

_CLOSERS = "\"'\u201d\u2019\u00bb)\\]}*_`"
_OPENERS = "\"'\u201c\u2018\u00ab(\\[{*_`"
_ENDS = re.compile(
    rf"(?<![.!?\u2026])(?P<marks>[.!?\u2026]++)[{_CLOSERS}]*+(?=\s|$)"  # the lookbehind: no start inside a run of marks
    r"|(?P<other>[\u3002\uff01\uff1f\u0964\u0965\u061f\u06d4]++)"  # of other scripts: no blank need follow
)
_LAST_WORD = re.compile(rf"[^\s{_OPENERS}-]{{0,40}}$")
_NEXT_WORD = re.compile(rf"[\s{_OPENERS}#-]*+(?P<word>[^\W_]++)?")
_ITEM = re.compile(r"(?:^|\n|[(;:])[ \t>*_#]*(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,5})$")

# After these a name or a number follows, never a new sentence.
_TITLE = re.compile(
    "mr|mrs|ms|messrs|dr|prof|rev|hon|gen|col|capt|cmdr|lt|sgt|maj|gov|sen|rep|st|mt|nos|vol|pp|fig|eq|cf|vs|viz|approx"
    "|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|mon|tue|tues|wed|thu|thurs|fri",
    re.IGNORECASE,
)
_ABBREVIATION = re.compile(
    r"etc|inc|ltd|co|corp|jr|sr|bros|ave|blvd|rd|dept|univ|assn|sq|ft|ph\.d|al|eds?|[^\W\d_]|(?:[^\W\d_]\.)+[^\W\d_]",
    re.IGNORECASE,
)
_STARTER = re.compile(
    "the|an?|i|he|she|it|we|you|they|this|that|these|those|there|here|his|her|its|our|your|their|my|what|when|where|who"
    "|why|how|if|in|on|at|for|from|with|by|as|to|and|but|so|or|yet|however|then|now|although|while|after|before|because"
    "|since|also|one|some|many|most|all|both|each|please|thanks?|let|do|not|no|yes",
    re.IGNORECASE,
)


def num_sentences(text: str, *, items: bool = False) -> int:
    """Returns the number of sentences.

    Args:
      text: any text.
      items: whether the number of a list item ("1.") is a sentence, as it is for Punkt.
    """
    count, start = 0, 0
    for end in _ends(text, items):
        count += any(character.isalnum() for character in text[start:end])
        start = end
    return count + any(character.isalnum() for character in text[start:])


def _ends(text: str, items: bool) -> Iterator[int]:
    """Yields where sentences end."""
    for match in _ENDS.finditer(text):
        marks = match["marks"]
        if match["other"] or "!" in marks or "?" in marks or _stops(text, match, items):
            yield match.end()


def _stops(text: str, match: re.Match[str], items: bool) -> bool:
    """Whether one or several dots end a sentence."""
    following = _NEXT_WORD.match(text, match.end())["word"] or ""
    if match["marks"] != ".":
        return not following[:1].islower()
    before = text[max(0, match.start() - 41) : match.start()]
    if _ITEM.search(before):
        return items and following[:1].isupper()
    word = _LAST_WORD.search(before).group()
    if _TITLE.fullmatch(word):
        return False
    if _ABBREVIATION.fullmatch(word):
        return following[:1].isupper() and _STARTER.fullmatch(following) is not None
    return True
