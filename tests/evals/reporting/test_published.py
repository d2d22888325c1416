import pytest

from phi4r.evals.benchmarks.table import BENCHMARKS
from phi4r.evals.puzzles.table import PUZZLES
from phi4r.evals.reporting.published import GENERAL, MODELS, PUBLISHED, REASONING


@pytest.mark.parametrize(
    "benchmark, model, mean",
    [
        ("aime_2025", "Phi-4-reasoning", 63.1),
        ("aime_2025", "o3-mini-high", 82.5),
        ("aime_1983_2024", "DeepSeek-R1", 86.0),
        ("omni_math", "R1-Distill-70B", 63.4),
        ("omni_math", "o1", 67.5),
        ("codeforces", "DeepSeek-R1", 2029),
        ("livecodebench", "Phi-4-reasoning-plus", 53.1),
        ("tsp", "o3-mini-high", 56.4),
        ("maze_hub", "DeepSeek-R1", 47.5),
        ("flenqa_hub_3k", "o3-mini-high", 96.8),
        ("mmlu_pro", "Phi-4-reasoning-plus", 76.0),
    ],
)
def test_figures_stand_under_their_models(benchmark, model, mean):
    assert PUBLISHED[benchmark].means[model] == mean


def test_figures_that_the_report_does_not_give_are_missing():
    assert list(PUBLISHED["gpqa_diamond"].means) == [
        "Phi-4-reasoning",
        "Phi-4-reasoning-plus",
        "DeepSeek-R1",
        "o3-mini-high",
    ]
    assert list(PUBLISHED["livecodebench"].means) == ["Phi-4-reasoning", "Phi-4-reasoning-plus", "DeepSeek-R1"]
    assert PUBLISHED["aime_2025"].sds == dict(zip(MODELS, (6.3, 4.6, 5.8, 4.3, 5.7, 4.9), strict=True))
    assert not any(row.sds for row in (*REASONING, *GENERAL) if "aime_2025" not in row.benchmarks)


def test_every_row_is_beside_a_task_of_ours():
    assert set(PUBLISHED) <= set(BENCHMARKS) | set(PUZZLES)
