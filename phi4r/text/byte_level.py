"""The letters of a byte-level vocabulary: each byte is written as one printable character, and back."""

import functools


@functools.cache
def byte_letters() -> dict[int, str]:
    """Returns the letter that stands for each byte in a byte-level vocabulary.

    Printable Latin-1 stands for itself; the other bytes take the code points from 256 on, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


@functools.cache
def _letter_bytes() -> dict[str, int]:
    return {letter: byte for byte, letter in byte_letters().items()}


def token_bytes(token: str) -> bytes:
    """Returns the bytes that a token of such a vocabulary stands for; an added token may have other characters.

    One of those is taken as it is written, as the library does.
    """
    bytes_of = _letter_bytes()
    if all(letter in bytes_of for letter in token):
        return bytes(bytes_of[letter] for letter in token)
    return token.encode()
