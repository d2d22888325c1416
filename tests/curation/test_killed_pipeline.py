"""The whole pipeline with a real server, killed in the middle and started again."""

import collections
import json
import os
import signal
import subprocess
import sys
import time

from phi4r.curation.pipeline import CurateSettings, run_curate
from phi4r.settings import build
from tests.sampling.chat_server import answer, chat_server, failure

RUN = """
import json, sys
from phi4r.curation.pipeline import CurateSettings, run_curate
from phi4r.settings import build
run_curate(build(CurateSettings, json.loads(sys.argv[1]), where="config"), sys.argv[2])
"""
NUM_PROMPTS, BUSY, GARBAGE = 10, "How much is 3 + 3?", "How much is 5 + 5?"


def section(server, seeds) -> dict:
    """A config with a strong and a weak model on one server, that asks one question at a time."""
    endpoint = {"base_url": server.url, "concurrency": 1, "max_retries": 0}
    return {
        "order": ["seeds", "teachability"],
        "stages": {
            "seeds": {"sources": {"sums": {"place": str(seeds), "licence": "MIT"}}},
            "teachability": {
                "strong": "strong",
                "weak": ["weak"],
                "strong_samples": 2,
                "weak_samples": 2,
                "min_steps": 0,
                "batch_size": 4,
            },
        },
        "generators": {
            name: {"kind": "endpoint", "endpoint": {**endpoint, "model": name}} for name in ("strong", "weak")
        },
    }


def test_a_killed_pipeline_asks_no_question_again_and_sets_aside_what_failed(tmp_path, repository):
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text("".join(json.dumps({"prompt": f"How much is {n} + {n}?"}) + "\n" for n in range(NUM_PROMPTS)))
    asked: collections.Counter = collections.Counter()
    killed: list[subprocess.Popen] = []

    def script(request):
        prompt = request.prompt.split("\n")[0]
        if killed and sum(asked.values()) == 13:
            time.sleep(0.5)  # the answer before this question is on the disk
            os.kill(killed.pop().pid, signal.SIGKILL)
            return None
        if prompt == BUSY:
            return failure(429, "slow down")
        if prompt == GARBAGE:
            return 200, {}, "<html>bad gateway</html>"
        number = int(prompt.split()[3])
        question = (request.body["model"], prompt, request.body["seed"])
        asked[question] += 1
        first_of_two = sum(count for (model, of, _), count in asked.items() if (model, of) == question[:2]) == 1
        right = request.body["model"] == "strong" or first_of_two
        return answer(f"\\boxed{{{2 * number if right else -1}}}")

    with chat_server(script) as server:
        config = section(server, seeds)
        workdir = tmp_path / "run"
        killed.append(subprocess.Popen([sys.executable, "-c", RUN, json.dumps(config), str(workdir)], cwd=repository))
        process = killed[0]
        assert process.wait(timeout=120) == -signal.SIGKILL
        assert sum(asked.values()) == 13
        summaries = run_curate(build(CurateSettings, config, where="config"), workdir)
    # 8 prompts can be answered, 2 times by each of 2 models; each of these 32 questions was asked once in both runs.
    assert len(asked) == 32 and set(asked.values()) == {1}
    assert summaries["teachability"]["in"] == 10 and summaries["teachability"]["out"] == 8
    assert summaries["teachability"]["failed"] == 2
    quarantined = (workdir / "01-teachability" / "quarantine.jsonl").read_text()
    assert "429" in quarantined and "no chat completion" in quarantined
    assert (workdir / "01-teachability" / "agreement.png").read_bytes().startswith(b"\x89PNG")
