"""Checkpoints of a run: train state and data position together, written in the background, never half.

    DIR/<step>/state   the train state (any tree of arrays), by Orbax
    DIR/<step>/host    JSON: the data state, the metadata of the run, what was measured at that step
    DIR/<step>/arrays  the numpy arrays of the data state, if there are any
    DIR/best.json      the best of these steps, where a metric is given to choose it by

A step appears under its name only when everything in it is on disk, and only then does an older one go. On a resume the
newest step that can be read wins; a damaged one is named, and set aside once an older one has taken its place.
"""

import contextlib
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from phi4r.checkpoint.best import BestStep, KeepBest, NewestAndBest
from phi4r.checkpoint.donation import owned_copy
from phi4r.checkpoint.host_state import join_arrays, split_arrays
from phi4r.checkpoint.orbax_errors import quiet_orbax, refusal_of_disk
from phi4r.errors import UserError
from phi4r.hosts import gather, is_primary
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
        keep_best: KeepBest | None = None,
        save_every: int = 1,
        metadata: Mapping[str, Any] | None = None,
        allow_changed: bool = False,
    ):
        """Opens `directory`, which is created where it is missing.

        Args:
          directory: of the checkpoints of this run alone.
          keep: how many of the newest checkpoints stay.
          keep_best: by what one more is chosen to stay, the best; None for the newest only.
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
        self._best = BestStep(keep_best)
        _make_writable(self._directory)
        quiet_orbax()
        for path in sorted(self._directory.iterdir()):
            if _TEMPORARY in path.name:
                _log.warning("checkpoint %s is incomplete (the run ended while saving): deleted.", path)
        self._orbax = ocp.CheckpointManager(
            self._directory,
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "host": ocp.JsonCheckpointHandler(),
                "arrays": ocp.StandardCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                preservation_policy=NewestAndBest(keep, self._best), cleanup_tmp_directories=True
            ),
        )
        for step in self.steps:
            self._best.add(step, _stored_metrics(self._directory / str(step)))

    @property
    def steps(self) -> list[int]:
        """The saved steps, oldest first."""
        return sorted(self._orbax.all_steps())

    @property
    def best_step(self) -> int | None:
        """The saved step with the best metric; None where no metric was given or measured."""
        return self._best.step

    def improves(self, metrics: Mapping[str, float]) -> bool:
        """Whether a state that measured `metrics` would be the best of all that were saved."""
        return self._best.improves(metrics)

    def save(
        self,
        step: int,
        state: Any,
        data_state: Mapping[str, Any],
        *,
        metrics: Mapping[str, float] | None = None,
        force: bool = False,
    ) -> bool:
        """Copies the state off the devices and writes it in the background; `state` may be donated at once.

        Args:
          step: number of finished steps.
          state: tree of arrays.
          data_state: JSON values and numpy arrays from which the input continues; on several hosts JSON values alone.
          metrics: what was measured of this state, for `keep_best`.
          force: save at any step, as at the end of a run.

        Returns:
          Whether a checkpoint is being written: not between multiples of `save_every`, nor twice for one step.

        Raises:
          UserError: if the disk refuses this checkpoint, or refused the one before.
        """
        if (step % self._save_every and not force) or step in self._orbax.all_steps():
            return False
        self.wait()
        metrics = {name: float(value) for name, value in (metrics or {}).items()}
        values, arrays = split_arrays(data_state)
        host = {"data_state": values, "metadata": self._metadata, "metrics": metrics}
        items = {"state": ocp.args.StandardSave(state), "host": ocp.args.JsonSave(host)}
        if arrays:
            items["arrays"] = ocp.args.StandardSave(arrays)
        self._best.add(step, metrics)
        with self._disk_errors():
            return self._orbax.save(step, args=ocp.args.Composite(**items), force=True)

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
            state = data_state = reason = None
            try:
                state, data_state = self._restore_step(step, abstract_state)
            except (UserError, MemoryError, jax.errors.JaxRuntimeError):  # nothing is wrong with the files
                raise
            except Exception as error:  # what a damaged file makes its readers raise has no common class
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            # A host reads its own parts alone: what one cannot read, none may go on with.
            reasons = [other for other in gather([reason]) if other is not None]
            if reasons:
                damaged[step] = reasons[0]
                _log.warning("checkpoint %s is damaged and skipped (%s).", self._directory / str(step), reasons[0])
                continue
            self._set_aside(damaged)
            return owned_copy(state), data_state
        if damaged:
            step, reason = next(iter(damaged.items()))
            raise UserError(
                f"none of the checkpoints {self.steps} in {self._directory} can be read (step {step}: {reason}); "
                "move the folder away to start anew."
            )
        return None

    def wait(self) -> None:
        """Returns when the checkpoint under way is complete on disk.

        Raises:
          UserError: if the disk refused it.
        """
        with self._disk_errors():
            self._orbax.wait_until_finished()
            if is_primary():
                self._best.publish(self._directory)

    def close(self) -> None:
        """Waits, and frees the threads."""
        try:
            self.wait()
        finally:
            self._orbax.close()

    def __enter__(self) -> "CheckpointManager":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: Any) -> None:
        with contextlib.suppress(UserError) if kind else contextlib.nullcontext():  # the first failure is the one told
            self.close()

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Turns what the file system refuses into one line; Orbax tells of it at the next call after it happened."""
        try:
            yield
        except (OSError, ValueError) as error:
            reason = refusal_of_disk(error)
            if reason is None:
                raise
            complete = [int(path.name) for path in self._directory.iterdir() if path.name.isdecimal()]
            raise UserError(
                f"cannot write checkpoints to {self._directory}: {reason}. Make room and start the run again: it goes "
                f"on from {f'step {max(complete)}' if complete else 'the start'}."
            ) from error

    def _restore_step(self, step: int, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
        """Returns the state and the data state of one step, refusing another run's before any array is read."""
        # Read by the handlers themselves: Orbax's checkpointer would wait for a host that has met with a damaged file.
        folder = self._directory / str(step)
        with contextlib.closing(ocp.JsonCheckpointHandler()) as handler:
            host = handler.restore(folder / "host", ocp.args.JsonRestore())
        _refuse_changes(self._directory / str(step), host["metadata"], self._metadata, self._allow_changed)
        self._refuse_other_shapes(step, abstract_state)
        with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
            state = handler.restore(folder / "state", args=ocp.args.StandardRestore(abstract_state))
            stored = (folder / "arrays").is_dir()
            arrays = handler.restore(folder / "arrays", args=ocp.args.StandardRestore()) if stored else {}
        return state, join_arrays(host["data_state"], arrays)

    def _refuse_other_shapes(self, step: int, abstract_state: Any) -> None:
        """Raises UserError at the first array that is stored in another shape or dtype, missing, or left over."""
        stored = {
            leaf.name: (tuple(leaf.shape), str(leaf.dtype))
            for leaf in jax.tree.leaves(self._orbax.item_metadata(step)["state"].tree)
        }
        leaves, _ = jax.tree_util.tree_flatten_with_path(abstract_state)
        wanted = {
            jax.tree_util.keystr(path, simple=True, separator="."): (tuple(leaf.shape), str(jnp.dtype(leaf.dtype)))
            for path, leaf in leaves
        }
        for name in [*wanted, *stored]:
            if stored.get(name) != wanted.get(name):
                raise UserError(
                    f"checkpoint {self._directory / str(step)}: {name} is {_described(stored.get(name))} there, and "
                    f"{_described(wanted.get(name))} in this run; continue with the config that made it, or use "
                    "another workdir."
                )

    def _set_aside(self, damaged: Mapping[int, str]) -> None:
        """Renames damaged steps, so that the resumed run can save the same steps again."""
        if not damaged:
            return
        for step in damaged:
            self._best.remove(step)
        if is_primary():
            for step in damaged:
                path = self._directory / str(step)
                os.replace(path, path.with_name(path.name + _DAMAGED))
        ocp.multihost.sync_global_processes("phi4r_damaged_checkpoints_set_aside")
        self._orbax.reload()


def _stored_metrics(folder: pathlib.Path) -> dict[str, float]:
    """Returns what was measured of a checkpoint; nothing where it cannot be read, which `restore` will find out."""
    try:
        return json.loads((folder / "host" / "metadata").read_text()).get("metrics", {})
    except (OSError, ValueError):
        return {}


def _described(array: tuple[tuple[int, ...], str] | None) -> str:
    return "absent" if array is None else f"{array[1]} {array[0]}"


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
