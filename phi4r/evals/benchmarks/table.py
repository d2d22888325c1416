"""All benchmarks by name."""

from collections.abc import Mapping

from phi4r.evals.benchmarks.aime import AIME_1983_2024, AIME_2024, AIME_2025
from phi4r.evals.benchmarks.arena_hard import ARENA_HARD
from phi4r.evals.benchmarks.ba_calendar import BA_CALENDAR_HUB
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.codeforces import CODEFORCES
from phi4r.evals.benchmarks.flenqa import FLENQA_HUB, FLENQA_HUB_3K
from phi4r.evals.benchmarks.gpqa import GPQA_DIAMOND
from phi4r.evals.benchmarks.hmmt import HMMT_FEB_2025
from phi4r.evals.benchmarks.humaneval import HUMANEVAL_PLUS
from phi4r.evals.benchmarks.ifeval import IFEVAL
from phi4r.evals.benchmarks.kitab import KITAB_ONE, KITAB_TWO
from phi4r.evals.benchmarks.livecodebench import LIVECODEBENCH
from phi4r.evals.benchmarks.math_sets import GSM8K, MATH_500, OLYMMATH
from phi4r.evals.benchmarks.mmlu_pro import MMLU_PRO
from phi4r.evals.benchmarks.omni_math import OMNI_MATH, OMNI_MATH_FULL
from phi4r.evals.benchmarks.toxigen import TOXIGEN
from phi4r.evals.benchmarks.vision_language import MAZE_HUB, SPATIAL_MAP_HUB

_ALL: tuple[Benchmark, ...] = (
    AIME_2025,
    AIME_2024,
    AIME_1983_2024,
    HMMT_FEB_2025,
    OMNI_MATH,
    OMNI_MATH_FULL,
    MATH_500,
    GSM8K,
    OLYMMATH,
    GPQA_DIAMOND,
    MMLU_PRO,
    LIVECODEBENCH,
    CODEFORCES,
    HUMANEVAL_PLUS,
    IFEVAL,
    ARENA_HARD,
    KITAB_ONE,
    KITAB_TWO,
    TOXIGEN,
    BA_CALENDAR_HUB,
    MAZE_HUB,
    SPATIAL_MAP_HUB,
    FLENQA_HUB,
    FLENQA_HUB_3K,
)

BENCHMARKS: Mapping[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
