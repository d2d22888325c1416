"""Algorithm 1 of the Phi-4 report in plain Python, word by word and item by item, to compare with."""

import unicodedata


def plain_words(text: str) -> list[str]:
    """Words, character by character; those of kana and Han stand alone."""
    words, word = [], ""
    for character in unicodedata.normalize("NFKC", text).casefold():
        alone = any(low <= character <= high for low, high in (("\u3040", "\u30ff"), ("\u4e00", "\u9fff")))
        alone = alone or "\u3400" <= character <= "\u4dbf" or "\uf900" <= character <= "\ufaff"
        alone = alone or "\U00020000" <= character <= "\U0003ffff"
        in_word = unicodedata.category(character)[0] in "LNM"
        if alone or not in_word:
            words, word = [*words, word], ""
        if in_word and alone:
            words.append(character)
        elif in_word:
            word += character
    return [word for word in [*words, word] if word]


def grams(words: list[str], size: int) -> set[tuple[str, ...]]:
    """The distinct n-grams; of fewer words, all of them are one."""
    return {tuple(words[i : i + size]) for i in range(max(len(words) - size + 1, 1))} if words else set()


def plain_overlap(
    text: str, items: list[str], *, long: int, short: int, contaminated: float, partial: float
) -> tuple[str, str, float]:
    """Verdict, rule, and the largest ratio of one text against the items."""
    words = plain_words(text)
    ratio, has_long = 0.0, False
    for item in map(plain_words, items):
        ours, theirs = grams(words, short), grams(item, short)
        if ours & theirs:
            ratio = max(ratio, len(ours & theirs) / min(len(ours), len(theirs)))
        has_long |= min(len(words), len(item)) >= long and bool(grams(words, long) & grams(item, long))
    if has_long:
        return "contaminated", f"{long}-gram", ratio
    if ratio >= contaminated:
        return "contaminated", f"{short}-gram ratio", ratio
    return ("partial", f"{short}-gram ratio", ratio) if ratio > partial else ("clean", "", ratio)
