"""Checkpoints of a run: train state and data position together, written in the background, never half.

    DIR/<step>/state   the train state (any tree of arrays), by Orbax
    DIR/<step>/host    JSON: the data state and the metadata of the run

A step appears under its name only when everything in it is on disk. On a resume the newest step that can be read wins;
a damaged one is named, and set aside once an older one has taken its place.
"""

import json
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp

from phi4r.checkpoint.donation import owned_copy
from phi4r.errors import UserError
from phi4r.settings import first_difference

_log = logging.getLogger(__name__)
_TEMPORARY = ".orbax-checkpoint-tmp"
_DAMAGED = ".damaged"


class CheckpointManager:
    """Saves and restores the checkpoints of one run. Use it as a context manager, or call `close` at the end."""

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        keep: int = 3,
        save_every: int = 1,
        metadata: Mapping[str, Any] | None = None,
        allow_changed: bool = False,
    ):
        """Opens `directory`, which is created where it is missing.

        Args:
          directory: of the checkpoints of this run alone.
          keep: how many of the newest checkpoints stay.
          save_every: `save` does nothing at steps that are no multiple of this.
          metadata: JSON values that say what the run is (its resolved config); stored with every checkpoint, and a
            checkpoint with other values is refused.
          allow_changed: restore in spite of other metadata.

        Raises:
          UserError: if `directory` cannot be written.
        """
        self._directory = pathlib.Path(os.path.abspath(directory))
        self._save_every = save_every
        self._metadata = json.loads(json.dumps(metadata or {}))
        self._allow_changed = allow_changed
        _make_writable(self._directory)
        for path in sorted(self._directory.iterdir()):
            if _TEMPORARY in path.name:
                _log.warning("checkpoint %s is incomplete (the run ended while saving): deleted.", path)
        self._orbax = ocp.CheckpointManager(
            self._directory,
            item_handlers={"state": ocp.StandardCheckpointHandler(), "host": ocp.JsonCheckpointHandler()},
            options=ocp.CheckpointManagerOptions(
                preservation_policy=ocp.checkpoint_managers.LatestN(keep), cleanup_tmp_directories=True
            ),
        )

    @property
    def steps(self) -> list[int]:
        """The saved steps, oldest first."""
        return sorted(self._orbax.all_steps())

    def save(self, step: int, state: Any, data_state: Mapping[str, Any], *, force: bool = False) -> bool:
        """Copies the state off the devices and writes it in the background; `state` may be donated at once.

        Args:
          step: number of finished steps.
          state: tree of arrays.
          data_state: JSON values from which the input continues.
          force: save at any step, as at the end of a run.

        Returns:
          Whether a checkpoint is being written: not between multiples of `save_every`, nor twice for one step.
        """
        if (step % self._save_every and not force) or step in self._orbax.all_steps():
            return False
        host = {"data_state": dict(data_state), "metadata": self._metadata}
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), host=ocp.args.JsonSave(host))
        return self._orbax.save(step, args=args, force=True)

    def restore(self, abstract_state: Any) -> tuple[Any, dict[str, Any]] | None:
        """Returns the newest state that can be read and its data state; None where nothing was ever saved.

        Args:
          abstract_state: tree of ShapeDtypeStructs with shardings. Nothing is initialised first, so one state is alive;
            the arrays returned can be donated.

        Raises:
          UserError: if the checkpoint is of another run or shape, or none of the saved ones can be read.
        """
        self.wait()
        damaged: dict[int, str] = {}
        for step in reversed(self.steps):
            try:
                host = self._restore_host(step)
                _refuse_changes(self._directory / str(step), host["metadata"], self._metadata, self._allow_changed)
                self._refuse_other_shapes(step, abstract_state)
                args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
                state = self._orbax.restore(step, args=args)["state"]
            except (ValueError, OSError, KeyError, TypeError) as error:
                damaged[step] = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
                _log.warning("checkpoint %s is damaged and skipped (%s).", self._directory / str(step), damaged[step])
                continue
            self._set_aside(damaged)
            return owned_copy(state), host["data_state"]
        if damaged:
            step, reason = next(iter(damaged.items()))
            raise UserError(
                f"none of the checkpoints {self.steps} in {self._directory} can be read (step {step}: {reason}); "
                "move the folder away to start anew."
            )
        return None

    def wait(self) -> None:
        """Returns when the checkpoint under way is complete on disk; raises what its writing raised."""
        self._orbax.wait_until_finished()

    def close(self) -> None:
        """Waits, and frees the threads."""
        self._orbax.close()

    def __enter__(self) -> "CheckpointManager":
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def _restore_host(self, step: int) -> dict[str, Any]:
        return self._orbax.restore(step, args=ocp.args.Composite(host=ocp.args.JsonRestore()))["host"]

    def _refuse_other_shapes(self, step: int, abstract_state: Any) -> None:
        """Raises UserError at the first array that is stored with another shape, is missing, or is left over."""
        stored = {
            leaf.name: tuple(leaf.shape) for leaf in jax.tree.leaves(self._orbax.item_metadata(step)["state"].tree)
        }
        leaves, _ = jax.tree_util.tree_flatten_with_path(abstract_state)
        wanted = {jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape for path, leaf in leaves}
        for name in [*wanted, *stored]:
            if stored.get(name) != wanted.get(name):
                raise UserError(
                    f"checkpoint {self._directory / str(step)} has {name} of shape {stored.get(name)}, this run has "
                    f"{wanted.get(name)}; continue with the config that made it, or use another workdir."
                )

    def _set_aside(self, damaged: Mapping[int, str]) -> None:
        """Renames damaged steps, so that the resumed run can save the same steps again."""
        if not damaged:
            return
        if jax.process_index() == 0:
            for step in damaged:
                path = self._directory / str(step)
                os.replace(path, path.with_name(path.name + _DAMAGED))
        ocp.multihost.sync_global_processes("phi4r_damaged_checkpoints_set_aside")
        self._orbax.reload()


def _make_writable(directory: pathlib.Path) -> None:
    """Creates the folder; raises UserError unless files can be written into it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            raise PermissionError(13, "permission denied")
    except OSError as error:
        raise UserError(
            f"cannot write checkpoints to {directory}: {error.strerror}; choose a writable workdir."
        ) from None


def _refuse_changes(where: pathlib.Path, stored: dict[str, Any], ours: dict[str, Any], allow_changed: bool) -> None:
    """Raises UserError at the first difference between the metadata of a checkpoint and of this run."""
    difference = first_difference(stored, ours)
    if allow_changed or difference is None:
        return
    name, before, now = difference
    raise UserError(
        f"checkpoint {where} was made with {name}={before}, this run has {now}; continue with the "
        "old value, use another workdir, or permit it with allow_changed."
    )
