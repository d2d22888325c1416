import base64
import json
import os
import pickle
import zlib

import pytest

from phi4r.errors import UserError
from phi4r.verifiers.code.compressed_text import compress_text, decompress_text
from phi4r.verifiers.code.pickled_text import decode_pickled_text, read_pickled_text

TESTS = json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}, {"input": "é", "output": "\u4f60"}])


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("text", [TESTS, "", "x" * 300, "long" * 100_000])
def test_what_pickle_wrote_of_a_string_is_read(protocol, text):
    assert decode_pickled_text(_packed(pickle.dumps(text, protocol))) == text


@pytest.mark.parametrize("protocol", [3, 4])
def test_bytes_are_read_as_utf8(protocol):
    assert read_pickled_text(pickle.dumps(TESTS.encode(), protocol)) == TESTS


class _Bomb:
    def __reduce__(self):
        return os.system, ("touch /tmp/phi4r-was-here",)


@pytest.mark.parametrize(
    "value",
    [_Bomb(), ["a"], ("a", "b"), {"a": 1}, 7, None, True, 1.5, print, object(), bytearray(b"a"), frozenset("a")],
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_of_anything_else_is_refused_by_name(value, protocol):
    with pytest.raises(UserError, match="not loaded"):
        read_pickled_text(pickle.dumps(value, protocol))


def test_a_pickle_that_builds_an_object_beside_its_string_is_refused():
    call = b"\x80\x04cos\nsystem\n\x8c\x04true\x85R."
    with pytest.raises(UserError, match="GLOBAL"):
        read_pickled_text(call)
    two_strings = b"\x80\x04\x8c\x01a\x8c\x01b."
    with pytest.raises(UserError, match="single string"):
        read_pickled_text(two_strings)
    with pytest.raises(UserError, match="single string"):
        read_pickled_text(pickle.dumps("a") + pickle.dumps("b"))
    with pytest.raises(UserError, match="MEMOIZE"):
        read_pickled_text(b"\x80\x04\x8c\x01a" + b"\x94" * 1000 + b".")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"\x80\x04\x8c\x05abc",
        b"\x80\x04X\xff\xff\xff\xffabc.",
        b"\x80\x04\x8d" + b"\xff" * 8 + b".",
        b"\x80\x04\x8c\x01\xff.",
        b"\x80\x04C\x01\xff.",
        b"hello",
        bytes(range(256)),
        pickle.dumps("abc")[:-1],
    ],
)
def test_bytes_that_are_no_pickled_string_are_refused(data):
    with pytest.raises(UserError):
        read_pickled_text(data)


@pytest.mark.parametrize("text", ["", "not base64!", "\u4f60", "aGVsbG8=", _packed(b"x")[:-4], _packed(b"x") + "AAAA"])
def test_text_that_is_not_base64_of_zlib_is_refused(text):
    with pytest.raises(UserError):
        decode_pickled_text(text)
    with pytest.raises(UserError):
        decompress_text(text)


def test_a_decompression_bomb_is_stopped_at_the_limit():
    with pytest.raises(UserError, match="more than 1000 bytes"):
        decompress_text(compress_text("0" * 10**7), max_bytes=1000)
    assert decompress_text(compress_text("0" * 1000), max_bytes=1000) == "0" * 1000


def test_compressed_text_comes_back():
    assert decompress_text(compress_text(TESTS)) == TESTS
