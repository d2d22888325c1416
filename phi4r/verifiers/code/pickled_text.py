"""A string out of a pickle, without unpickling: published tests come as base64 of zlib of a pickled string.

To load a pickle is to run a program that its writer chose. Here its opcodes are only listed, and a pickle that does
anything but push one string (protocol, frame, string, memo, stop) is refused.
"""

import pickletools

from phi4r.errors import UserError
from phi4r.verifiers.code.compressed_text import MAX_BYTES, decompress

_TEXT = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}
_HARMLESS = {"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT"}
_STOP = "STOP"
_MAX_OPCODES = 16


def decode_pickled_text(text: str, *, max_bytes: int = MAX_BYTES) -> str:
    """Returns the string that `text` holds as base64 of zlib of a pickle.

    Raises:
      UserError: if it holds anything else, or more than `max_bytes`.
    """
    return read_pickled_text(decompress(text, max_bytes=max_bytes))


def read_pickled_text(data: bytes) -> str:
    """Returns the one string, or UTF-8 bytes, that a pickle holds; no code of the pickle runs.

    Raises:
      UserError: for a pickle of anything else, or bytes that are no pickle.
    """
    values: list[str | bytes] = []
    ended_at = None
    try:
        for number, (opcode, value, position) in enumerate(pickletools.genops(data)):
            if opcode.name in _TEXT:
                values.append(value)
            elif opcode.name == _STOP:
                ended_at = position + 1
            elif opcode.name not in _HARMLESS or number >= _MAX_OPCODES:
                raise UserError(f"a pickle with {opcode.name} is not loaded: only one of a single string is read.")
        if len(values) != 1 or ended_at != len(data):
            raise UserError("a pickle of anything but a single string is not loaded.")
        (value,) = values
        return value if isinstance(value, str) else value.decode()
    except ValueError as error:
        raise UserError("neither JSON nor a pickled string; take the file again from its source.") from error
