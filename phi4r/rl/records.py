"""Rollouts on disk: one ArrayRecord file a step, in it one JSON record a response, in the order of the batch.

A step's file is WORKDIR/rollouts/000012.arrayrecord. Groups that dynamic sampling dropped follow those that were
trained on. A record has

    problem, sample             id of the problem, and which of its G answers this is
    prompt, reference           what was asked, and the right answer
    text                        the response without its end token
    tokens                      ids of the drawn tokens, the end token included
    token_lengths               characters of `text` that each token wrote; they add up to the whole text. null for a
                                tokenizer that writes a token differently among others than alone
    logprobs                    of each token, under the policy that sampled it
    entropies                   nats, of the distribution that each token was drawn from
    logprob_gaps                log-prob of each token under the trainer minus that under the sampler, where given
    answer, status, correct     what the verifier extracted (or null), how that went, and whether it is right
    finish_reason               "stop", or "length" for a response that was cut off
    reward, reward_<part>       the reward, and its parts before they are weighted
    advantage                   within the group; null where the group was dropped
    sample_s, judge_s           seconds that the sampling and the judging of the whole step took
"""

import itertools
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from phi4r.data.sources import ArrayRecordSource, write_arrayrecord
from phi4r.errors import UserError
from phi4r.rl.rollout import JudgedGroups, Rollout
from phi4r.rl.token_lengths import TokenLengths
from phi4r.sampling import FINISH_STOP
from phi4r.text.tokenizer import Tokenizer

FOLDER = "rollouts"
_FILE_NAME = re.compile(r"(\d+)\.arrayrecord")
_REASON = re.compile(r"failed: ([^;]+)")  # of "write() failed: No space left on device; writing PATH; ..."


def save_rollout(
    path: str | os.PathLike,
    rollout: Rollout,
    tokenizer: Tokenizer,
    *,
    logprob_gaps: Sequence[np.ndarray] | None = None,
) -> None:
    """Writes the record of every response, all of them or no file.

    Args:
      path: WORKDIR/rollouts/<step>.arrayrecord.
      rollout: one step's.
      tokenizer: that decoded the responses.
      logprob_gaps: [n] float32 for each response of n tokens, trainer minus sampler; None where nobody has compared.

    Raises:
      UserError: if the file cannot be written, or the disk is full.
    """
    spell = TokenLengths(tokenizer)
    gaps = logprob_gaps or [None] * len(rollout.texts)
    trained = (_record(rollout, row, spell, rollout.advantages[row], gap) for row, gap in enumerate(gaps))
    dropped = rollout.dropped and (_record(rollout.dropped, row, spell) for row in range(len(rollout.dropped.texts)))
    times = {name: rollout.metrics[name] for name in ("sample_s", "judge_s")}
    try:
        write_arrayrecord(path, (record | times for record in itertools.chain(trained, dropped or ())))
    except RuntimeError as error:  # what the C++ side of the writer raises when the disk refuses
        if pathlib.Path(path).name not in str(error):
            raise
        reason = _REASON.search(str(error))
        raise UserError(
            f"cannot write {path}: {reason[1] if reason else error}; make room on the disk and start the run again."
        ) from error


def rollout_files(folder: str | os.PathLike) -> dict[int, pathlib.Path]:
    """Returns the file of every step that has one, in the order of steps.

    Args:
      folder: a workdir of GRPO, or the folder `rollouts` in it.

    Raises:
      UserError: if there are none.
    """
    folder = pathlib.Path(folder)
    for place in (folder / FOLDER, folder):
        names = [_FILE_NAME.fullmatch(path.name) for path in place.glob("*.arrayrecord")]
        files = {int(name[1]): place / name[0] for name in names if name}
        if files:
            return dict(sorted(files.items()))
    raise UserError(
        f"there are no rollouts in {folder}: neither {FOLDER}/<step>.arrayrecord nor <step>.arrayrecord; give the "
        "workdir of a GRPO run that wrote some (save_rollouts_every)."
    )


class StoredRollout:
    """The records of one step, read when they are asked for, in the order of the batch."""

    def __init__(self, path: str | os.PathLike):
        """Opens the file.

        Raises:
          UserError: if it is missing, empty or not an ArrayRecord file.
        """
        self._source = ArrayRecordSource(path)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns a record.

        Raises:
          UserError: if it cannot be read.
        """
        try:
            return self._source[index]
        except UserError:
            raise
        except Exception as error:  # the reader raises what its C++ side finds, of several types
            raise UserError(f"{self.where(index)} cannot be read: the file is damaged; leave its step out.") from error

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    def where(self, index: int) -> str:
        """Returns what to call record `index` in a message."""
        return self._source.where(index)


def _record(
    groups: Rollout | JudgedGroups,
    row: int,
    spell: TokenLengths,
    advantage: float | None = None,
    gaps: np.ndarray | None = None,
) -> dict[str, Any]:
    """Returns all that is known of a response."""
    samples, text = groups.samples, groups.texts[row]
    problem, sample = divmod(row, len(groups.texts) // len(groups.problems))
    mask = np.asarray(samples.response_mask[row])
    ids = samples.tokens[row][mask].tolist()
    record = {
        "problem": groups.problems[problem].id,
        "sample": sample,
        "prompt": groups.problems[problem].prompt,
        "reference": groups.problems[problem].answer,
        "text": text,
        "tokens": ids,
        "token_lengths": spell(ids, text),
        "logprobs": _rounded(samples.logprobs[row][mask]),
        "entropies": _rounded(samples.entropies[row][mask]),
        "answer": groups.verdicts[row].answer,
        "status": groups.verdicts[row].status,
        "correct": bool(groups.rewards.accuracy[row] > 0),
        "finish_reason": "stop" if samples.finish_reason[row] == FINISH_STOP else "length",
        "reward": float(groups.rewards.total[row]),
        **{f"reward_{name}": float(values[row]) for name, values in groups.rewards.parts.items()},
        "advantage": None if advantage is None else float(advantage),
    }
    return record if gaps is None else record | {"logprob_gaps": _rounded(gaps, digits=8)}


def _rounded(values: np.ndarray, *, digits: int = 6) -> list[float]:
    """Returns the values to as many decimals as float32 numbers of size 1 have, for a smaller file."""
    return np.round(np.asarray(values, np.float64), digits).tolist()
