"""Fill and seconds of packing as many lengths as the paper's data has, on one core.

    python -m benchmarks.packing_lengths

1.4M lengths (section 2: 1.4M+ pairs, 8.3B tokens, 5.9k in the mean) are drawn shard by shard from a log-normal
distribution that is cut at the 32,768 tokens of a row, and packed shard by shard as training does, by best-fit-
decreasing. How wide the distribution is the paper does not say: three widths are tried. The memory is what Python and
numpy hold at most while a tenth of the set is packed, and the whole set: it must not grow with the set.
"""

import argparse
import math
import os
import time
import tracemalloc
from collections.abc import Iterator

import numpy as np

from phi4r.data.packing import pack_report

ROW_LENGTH = 32_768
MEAN = 5_900
WIDTHS = (0.6, 0.9, 1.2)  # standard deviation of the logarithm
AIM_FILL, AIM_S = 0.99, 60.0


def shards(num: int, shard: int, *, centre: float, width: float, seed: int) -> Iterator[np.ndarray]:
    """Draws `num` lengths, [shard] int32 at a time."""
    for start in range(0, num, shard):
        rng = np.random.default_rng([seed, start])
        yield np.clip(rng.lognormal(centre, width, min(shard, num - start)), 1, ROW_LENGTH).astype(np.int32)


def centre_of(width: float, *, seed: int) -> float:
    """Returns the mean of the logarithm at which cut lengths have the mean of the paper."""
    low, high = 0.0, math.log(ROW_LENGTH)
    for _ in range(20):
        centre = (low + high) / 2
        mean = next(shards(200_000, 200_000, centre=centre, width=width, seed=seed)).mean()
        low, high = (centre, high) if mean < MEAN else (low, centre)
    return centre


def peak_bytes(num: int, shard: int, **distribution: float) -> int:
    """Returns the most memory that is held while `num` lengths are packed."""
    tracemalloc.start()
    pack_report(shards(num, shard, **distribution), ROW_LENGTH)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    """Prints a line for each width."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--num", type=int, default=1_400_000, help="lengths")
    parser.add_argument("--shard", type=int, default=4096, help="lengths packed together (DataSettings.window)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    for width in WIDTHS:
        distribution = {"centre": centre_of(width, seed=args.seed), "width": width, "seed": args.seed}
        start = time.perf_counter()
        report = pack_report(shards(args.num, args.shard, **distribution), ROW_LENGTH)
        seconds = time.perf_counter() - start
        tenth, whole = (peak_bytes(num, args.shard, **distribution) for num in (args.num // 10, args.num))
        met = report.fill >= AIM_FILL and seconds < AIM_S
        print(f"width {width}: {report}.")
        print(
            f"  {seconds:.1f} s (aim {AIM_S:.0f}), fill {100 * report.fill:.2f}% (aim {100 * AIM_FILL:.0f}%): "
            f"{'met' if met else 'missed'}; at most {tenth / 2**20:.1f} MiB for a tenth, {whole / 2**20:.1f} for all"
        )


if __name__ == "__main__":
    main()
