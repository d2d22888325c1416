"""Records as the page wants them: short, with numbers rounded to what a colour or a tooltip can show.

Texts are measured in UTF-16 units, which is what JavaScript counts.
"""

import base64
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from phi4r.errors import UserError
from phi4r.rl.repetition import RepetitionSettings
from phi4r.viewing.repeats import repeated_spans

_PART = "reward_"


def encode_response(record: Mapping[str, Any], repetition: RepetitionSettings, *, where: str) -> dict[str, Any]:
    """Returns one response for the page.

    Keys: `text`; `lengths` (UTF-16 units of each token, or null), `entropies` and `surprises` (hundredths of a nat;
    surprise is minus the log-prob) and `gaps` of its tokens, each null where it is not recorded; `repeats` (starts and
    ends, flat); and the judgement.

    Args:
      record: as `phi4r.rl.records.save_rollout` wrote it; entropies, gaps and token lengths may be missing.
      repetition: what counts as a repetition.
      where: what to call the record in a message.

    Raises:
      UserError: for a record of something else.
    """
    try:
        text, num_tokens = record["text"], len(record["tokens"])
        to_page = _utf16_offsets(text)
        entropies = record.get("entropies")
        return {
            "sample": int(record["sample"]),
            "text": text,
            "answer": None if record["answer"] is None else str(record["answer"]),
            "status": str(record["status"]),
            "right": bool(record["correct"]),
            "finish": str(record["finish_reason"]),
            "reward": number(record["reward"]),
            "parts": {name.removeprefix(_PART): number(record[name]) for name in record if name.startswith(_PART)},
            "advantage": None if record["advantage"] is None else number(record["advantage"]),
            "tokens": num_tokens,
            "entropy": mean(entropies) if entropies else None,
            "lengths": _lengths(record.get("token_lengths"), to_page),
            "entropies": _hundredths(entropies, 1),
            "surprises": _hundredths(record["logprobs"], -1),
            "gaps": _gaps(record.get("logprob_gaps")),
            "repeats": [int(to_page[place]) for span in repeated_spans(text, repetition) for place in span],
        }
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{where} is not a record of a rollout: {reason}.") from error


def number(value: float) -> float | None:
    """Returns the value to five digits; None where it is not finite, which JSON cannot say."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def mean(values: Sequence[float]) -> float | None:
    """Returns the mean as `number` does; None of nothing."""
    return number(float(np.mean(values))) if len(values) else None


def to_json(value: Any) -> bytes:
    """Returns compact JSON in ASCII, strict: nothing in it is not a number."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def pack(data: bytes) -> str:
    """Returns the data compressed by gzip, in base64: letters, digits, "+", "/" and "=", whatever was in the data."""
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()


def _utf16_offsets(text: str) -> np.ndarray:
    """Returns where each character of the text starts in UTF-16, and where the text ends; [len(text) + 1]."""
    if text.isascii() or max(text) <= "\uffff":
        return np.arange(len(text) + 1)
    widths = np.fromiter((1 + (character > "\uffff") for character in text), np.int64, len(text))
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(widths)])


def _lengths(lengths: Sequence[int] | None, to_page: np.ndarray) -> list[int] | None:
    """Returns the lengths of tokens in UTF-16 units."""
    if lengths is None:
        return None
    ends = to_page[np.cumsum(np.asarray(lengths, np.int64))]
    return np.diff(ends, prepend=0).tolist()


def _hundredths(values: Sequence[float] | None, sign: int) -> list[int] | None:
    """Returns the values times 100 as whole numbers; what is not finite becomes the largest that the page colours."""
    if values is None:
        return None
    finite = np.nan_to_num(sign * 100 * np.asarray(values, np.float64), nan=9999, posinf=9999, neginf=-9999)
    return np.round(finite).astype(int).tolist()


def _gaps(values: Sequence[float] | None) -> list[float | None] | None:
    return None if values is None else [float(f"{value:.2g}") if math.isfinite(value) else None for value in values]
