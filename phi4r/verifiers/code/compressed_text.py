"""Text in base64 of zlib: how large references are kept, read back under a limit."""

import base64
import zlib

from phi4r.errors import UserError

MAX_BYTES = 1 << 28  # of the tests of one problem, decompressed
_LEVEL = 1  # tests are megabytes of numbers: the best compression saves a tenth and takes four times as long


def compress_text(text: str) -> str:
    """Returns `text` as base64 of zlib."""
    return base64.b64encode(zlib.compress(text.encode(), _LEVEL)).decode("ascii")


def decompress_text(text: str, *, max_bytes: int = MAX_BYTES) -> str:
    """Returns the text that `compress_text` packed.

    Raises:
      UserError: for anything else, and for more than `max_bytes` of it.
    """
    try:
        return decompress(text, max_bytes=max_bytes).decode()
    except UnicodeDecodeError as error:
        raise UserError("compressed text is not UTF-8; take the file again from its source.") from error


def decompress(text: str, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Returns the bytes that `text` holds as base64 of zlib; memory stays below `max_bytes` and the text's own.

    Raises:
      UserError: if it holds something else, or more.
    """
    try:
        stream = zlib.decompressobj()
        data = stream.decompress(base64.b64decode(text.encode("ascii"), validate=True), max_bytes)
    except (ValueError, zlib.error) as error:
        raise UserError("neither JSON nor base64 of zlib; take the file again from its source.") from error
    if stream.unconsumed_tail:
        raise UserError(f"more than {max_bytes} bytes after decompression; leave the row out.")
    if not stream.eof or stream.unused_data:
        raise UserError("compressed data are cut off or followed by others; take the file again from its source.")
    return data
