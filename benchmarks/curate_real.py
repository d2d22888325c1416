"""Curation end to end on prompts of GSM8K and MATH-500, with a real server of SmolLM2-135M as the weak model.

    python -m benchmarks.curate_real --prompts=150 --samples=2          # of each set; needs the data sets

The gold solutions stand for a strong model and a teacher: they are recorded answers, in their own words. The weak model
is asked over HTTP, by `transformers serve`. Prints what every stage kept and dropped, and what asking cost. A second
run of the stages shows that no question is asked twice.
"""

import argparse
import json
import pathlib
import re
import shutil
import tempfile
import time
from typing import Any

from benchmarks.serving import transformers_server
from benchmarks.sft_vs_transformers import DEFAULT_DATA
from benchmarks.smollm2 import write_smollm2_folder
from phi4r.curation.pipeline import CurateSettings, run_curate
from phi4r.data.records import write_jsonl
from phi4r.settings import build

ORDER = ("seeds", "exact_duplicates", "near_duplicates", "screens", "decontamination", "teachability", "traces")
ORDER += ("clusters", "output")


def read_prompts(data: pathlib.Path, num: int) -> dict[str, list[dict[str, str]]]:
    """Returns rows {"prompt", "answer", "solution"} of both sets, by the name of the set."""
    gsm8k = [json.loads(line) for line in (data / "gsm8k" / "train.jsonl").open(encoding="utf-8")][:num]
    math = [json.loads(line) for line in (data / "math500" / "math500_test.jsonl").open(encoding="utf-8")][:num]
    return {
        "gsm8k": [
            {
                "prompt": row["question"],
                "answer": row["answer"].rpartition("####")[2].strip(),
                "solution": re.sub(r"<<.*?>>", "", row["answer"].rpartition("####")[0]).strip(),
            }
            for row in gsm8k
        ],
        "math": [{"prompt": row["problem"], "answer": row["answer"], "solution": row["solution"]} for row in math],
    }


def sections(folder: pathlib.Path, model: pathlib.Path, url: str, *, samples: int, max_tokens: int) -> dict[str, Any]:
    """Returns the config of the run: what folder has as seeds and recorded answers, and the server."""
    sources = {
        name: {"place": str(folder / f"{name}.jsonl"), "licence": "MIT", "domain": "math"} for name in ("gsm8k", "math")
    }
    endpoint = {"base_url": url, "model": str(model), "concurrency": 12, "timeout_s": 600.0}
    decoding = {"temperature": 0.8, "top_p": 0.95, "top_k": 0, "max_tokens": max_tokens}
    recorded = {"kind": "recorded", "path": str(folder / "gold.jsonl"), "thinking": True}
    return {
        "order": ORDER,
        "generators": {
            "gold": recorded,
            "smollm2": {"kind": "endpoint", "endpoint": endpoint, "decoding": decoding, "alias": "smollm2-135m"},
        },
        "stages": {
            "seeds": {"sources": sources},
            "near_duplicates": {"threshold": 0.95},
            "decontamination": {"benchmarks": ("chains:test?num=50&min_ops=6&max_ops=7",)},
            "teachability": {
                "strong": "gold",
                "weak": ("smollm2",),
                "strong_samples": 1,
                "weak_samples": samples,
                "low": 0.0,  # so small a model solves few of them
                "high": 0.8,
            },
            "traces": {
                "levels": ({"name": "gold", "teacher": "gold", "samples": 1},),
                "screens": {"language": "", "require_thought": True},
            },
            "output": {"folder": str(folder / "data"), "data": {"name": "real", "row_length": 4096}},
        },
    }


def write_inputs(folder: pathlib.Path, rows: dict[str, list[dict[str, str]]]) -> None:
    """Writes seeds without their solutions, and the gold solutions as recorded answers."""
    for name, of_set in rows.items():
        write_jsonl(folder / f"{name}.jsonl", [{"prompt": row["prompt"]} for row in of_set])
    completions = [
        {
            "prompt": row["prompt"],
            "completion": f"<think>{row['solution']}</think>{row['solution']}\n\nSo it is \\boxed{{{row['answer']}}}.",
        }
        for of_set in rows.values()
        for row in of_set
    ]
    write_jsonl(folder / "gold.jsonl", completions)


def main() -> None:
    """Runs the pipeline twice and prints its counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=150, help="of each set")
    parser.add_argument("--samples", type=int, default=2, help="of the weak model")
    parser.add_argument("--max_tokens", type=int, default=192)
    parser.add_argument("--data", type=pathlib.Path, default=DEFAULT_DATA)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        model = write_smollm2_folder(pathlib.Path(tempfile.gettempdir()) / "phi4r-smollm2-135m")
        write_inputs(folder, read_prompts(args.data, args.prompts))
        with transformers_server(model, folder / "server.log", threads=2, batching=True) as url:
            config = sections(folder, model, url, samples=args.samples, max_tokens=args.max_tokens)
            settings = build(CurateSettings, config, where="config")
            start = time.perf_counter()
            run_curate(settings, folder / "run")
            print(f"first run: {time.perf_counter() - start:.1f} s")
        for stage in (folder / "run").glob("[0-9][0-9]-*"):
            shutil.rmtree(stage)
        start = time.perf_counter()
        run_curate(settings, folder / "run")  # the server is gone: every answer has to come from the cache
        print(f"again, without the server: {time.perf_counter() - start:.1f} s")
        print((folder / "data" / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
