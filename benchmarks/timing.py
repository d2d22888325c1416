"""Timing of competitors in one run: turns are interleaved, so that a busy moment of the machine meets all of them."""

import statistics
import time
from collections.abc import Callable, Mapping


def time_interleaved(competitors: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, list[float]]:
    """Runs every competitor once to warm up (compilation included), then `repeats` times in turn.

    Args:
      competitors: name -> function that returns when its work is done.
      repeats: timed runs of each.

    Returns:
      Wall seconds of each run.
    """
    for run in competitors.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    for _ in range(repeats):
        for name, run in competitors.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def print_table(title: str, seconds: Mapping[str, list[float]], *, tokens: int, baseline: str) -> None:
    """Prints median, best and worst seconds, tokens/s at the median, and the speed relative to `baseline`."""
    reference = statistics.median(seconds[baseline])
    print(title)
    print(f"{'':16s}{'median s':>10s}{'best':>10s}{'worst':>10s}{'tokens/s':>12s}{'relative':>10s}")
    for name, runs in seconds.items():
        median = statistics.median(runs)
        print(
            f"{name:16s}{median:10.3f}{min(runs):10.3f}{max(runs):10.3f}"
            f"{tokens / median:12.1f}{reference / median:9.2f}x"
        )
