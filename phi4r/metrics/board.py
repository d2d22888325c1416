"""Scalars for TensorBoard, written by the caller's own thread.

The writer thread of tensorboardX dies of a full disk, and the run would then wait for it without end.
"""

import os
import pathlib
import time
from collections.abc import Mapping


class Board:
    """Appends events to one new file; opened once for each start of a run."""

    def __init__(self, folder: pathlib.Path, *, purge_step: int | None) -> None:
        """Creates the file.

        Args:
          folder: made if it is missing.
          purge_step: TensorBoard is to forget points of earlier files from this step on; None for none.
        """
        from tensorboardX.event_file_writer import EventsWriter  # imports slowly, so only where it is used
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        self._event, self._summary = Event, Summary
        folder.mkdir(parents=True, exist_ok=True)
        self._events = EventsWriter(str(folder / "events"), filename_suffix=f".{os.getpid()}")
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._events.write_event(Event(step=purge_step, wall_time=time.time(), session_log=start))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes finite scalars of one step, and flushes."""
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        event = self._event(step=step, wall_time=time.time(), summary=self._summary(value=values))
        self._events.write_event(event)
        self._events.flush()

    def close(self) -> None:
        """Closes the file."""
        self._events.close()
