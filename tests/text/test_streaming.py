import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi4r.text.streaming import StopStrings, TextStream, unfinished_marker
from phi4r.text.terminal import PLAIN, THOUGHT_COLOUR, ResponseWriter, ThoughtPainter
from phi4r.text.tokenizer import load_tokenizer

TEXT = "Grüße, 北京 🙂!\n\nQ: 7·6 = 42\n\tEND"


def cut_up(ids, size):
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def streamed(stop, parts) -> list[str]:
    stream = TextStream(stop)
    return [*(stream.add(part) for part in parts), stream.finish()]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_the_parts_of_a_stream_are_the_text_of_all_tokens(tokenizer, size):
    ids = tokenizer.encode(TEXT)
    parts = streamed(StopStrings(tokenizer, ()), cut_up(ids, size))
    assert "".join(parts) == TEXT
    assert not any("\ufffd" in part for part in parts)  # no half of a character was shown
    if size == 1:
        assert sum(map(bool, parts)) > 10  # it did not wait for the end


@given(data=st.lists(st.integers(0, 255), max_size=12), size=st.integers(1, 4))
def test_bytes_that_are_no_text_stream_as_they_are_decoded(byte_tokenizer, data, size):
    parts = streamed(StopStrings(byte_tokenizer, ()), cut_up(data, size))
    assert "".join(parts) == byte_tokenizer.decode(data)


@pytest.fixture(scope="module")
def byte_tokenizer(byte_folder):
    return load_tokenizer(byte_folder)


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("strings", "before"),
    [
        (("\n\n",), "Grüße, 北京 🙂!"),
        (("42", "Q:"), "Grüße, 北京 🙂!\n\n"),
        (("京 🙂",), "Grüße, 北"),
        (("G",), ""),
        (("END",), "Grüße, 北京 🙂!\n\nQ: 7·6 = 42\n\t"),
        (("ENDE", "\n\n\n"), TEXT),
    ],
)
def test_a_stop_string_ends_stream_and_response_however_tokens_come(tokenizer, strings, before, size):
    stop = StopStrings(tokenizer, strings)
    ids = tokenizer.encode(TEXT)
    kept, old = None, 0
    for part in cut_up(ids, size):
        kept = stop.find(ids[: old + len(part)], old)
        old += len(part)
        if kept is not None:
            break
    # The token that completes the string is the last one that is kept.
    if before == TEXT:
        assert kept is None
    else:
        assert any(string in tokenizer.decode(ids[:kept]) for string in strings)
        assert not any(string in tokenizer.decode(ids[: kept - 1]) for string in strings)
    assert stop.cut(tokenizer.decode(ids[:kept])) == before
    assert "".join(streamed(stop, cut_up(ids[:kept], size))) == before


def test_only_the_end_of_a_response_is_decoded_for_a_stop_string():
    class Letters:
        decoded = 0

        def decode(self, ids):
            self.decoded = max(self.decoded, len(ids))
            return "".join(map(chr, ids))

    letters = Letters()
    tokens = [*map(ord, "a" * 5000 + "STOP" + "b" * 28)]
    assert StopStrings(letters, ("STOP", "x")).find(tokens, 5000) == 5004
    assert letters.decoded == 4 + 32


@pytest.mark.parametrize(
    ("text", "markers", "expected"),
    [
        ("a <thi", ("<think>",), "<thi"),
        ("a <think>", ("<think>",), ""),
        ("xaba", ("abab", "bax"), "aba"),
        ("xa", (), ""),
        ("", ("ab",), ""),
        ("b", ("b", "bc"), "b"),
    ],
)
def test_what_may_begin_a_marker_is_held_back(text, markers, expected):
    assert unfinished_marker(text, markers) == expected


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "painted"),
    [
        ("<think> 0</think>\\boxed{0}", f"{THOUGHT_COLOUR}<think> 0</think>{PLAIN}\\boxed{{0}}"),
        ("a < b", "a < b"),
        ("<think> cut o<", f"{THOUGHT_COLOUR}<think> cut o<{PLAIN}"),
        ("0</think>1", "0</think>1"),
        ("\t\x1b[2J\r\x9b1\n", "\t\ufffd[2J\ufffd\ufffd1\n"),
    ],
)
def test_thoughts_are_coloured_and_control_characters_shown(text, painted, size):
    painter = ThoughtPainter()
    parts = [painter.add(text[start : start + size]) for start in range(0, len(text), size)]
    assert "".join([*parts, painter.finish()]) == painted


def test_responses_that_are_drawn_together_are_written_one_after_the_other(byte_tokenizer):
    out = io.StringIO()
    writer = ResponseWriter(["> q\n", "", "> r\n"], StopStrings(byte_tokenizer, ("#",)), out)

    def add(row, text):
        writer.add(row, byte_tokenizer.encode(text, specials=True))

    add(1, "second ")
    add(0, "fi")
    assert out.getvalue() == "> q\nfi"
    add(2, "\x1b third<|im_end|>")
    writer.finish(2)
    add(0, "rst")
    assert out.getvalue() == "> q\nfirst"
    writer.note(0, "[0]\n")
    writer.finish(0)
    assert out.getvalue() == "> q\nfirst\n[0]\nsecond "
    writer.note(2, "[2]\n")
    add(1, "one# and more")
    writer.note(1, "[1]\n")
    writer.note(1, "end\n")
    writer.finish(1)
    # A pipe gets the text as it is; the end token is no text.
    assert out.getvalue() == "> q\nfirst\n[0]\nsecond one\n[1]\nend\n> r\n\x1b third\n[2]\n"
