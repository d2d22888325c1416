"""The sweep in miniature, by the route of the command: two by two runs of two steps each, and its resumption."""

import json

import pytest

from configs import sweep as sweep_config
from phi4r import main
from phi4r.metrics.writer import read_metrics
from phi4r.tools import cli
from phi4r.train import sft


def small_config():
    config = sweep_config.get_config()
    config.steps_per_weight = 2
    config.random_base.update({"num_layers": 1, "embed_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 16})
    config.traces = {
        "math": "chains:train?num=40&min_ops=2&max_ops=2",
        "puzzles": "maze?size=2&wording=short&num=40&split=train",
    }
    config.base.optimizer.warmup_steps = 1
    config.base.data.row_length = 128
    config.base.log_every = 1
    config.evaluation.task = (
        "chains:test?num=4&min_ops=2&max_ops=2&name=math maze?size=2&wording=short&num=4&split=test&name=puzzles"
    )
    config.evaluation.batch_size = 8
    config.evaluation.sampler = {"prompt_length": 40, "max_response": 8, "page_size": 8}
    config.evaluation.decoding.max_tokens = 8
    return config


NAMES = [f"math-{m}_puzzles-{p}_seed-0" for m in (0, 1) for p in (0, 1)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("sweep")
    return workdir, main.run_experiment(small_config(), workdir)


def test_every_cell_is_trained_as_its_weights_say_and_evaluated(finished):
    workdir, summary = finished
    steps = [
        max((line["step"] for line in read_metrics(workdir / "runs" / name)), default=0)
        for name in NAMES
        if (workdir / "runs" / name / "params").exists()
    ]
    assert steps == [2, 2, 4]  # the base is not trained
    stored = json.loads((workdir / "runs" / NAMES[3] / "config.json").read_text())
    assert [source["spec"] for source in stored["data"]["sources"]] == [
        f"jsonl:{workdir}/problems/math.jsonl",
        f"jsonl:{workdir}/problems/puzzles.jsonl",
    ]
    for name in NAMES:
        scores = summary["runs"][name]["scores"]
        for task in ("math", "puzzles"):
            path = workdir / "runs" / name / "evaluation" / task / "results.json"
            assert json.loads(path.read_text())["accuracy"] == scores[task]
    assert (workdir / "report" / "report.html").exists()


def test_a_sweep_goes_on_where_it_was_stopped(finished, monkeypatch):
    workdir, summary = finished
    (workdir / "runs" / NAMES[1] / "result.json").unlink()
    trained = []
    run_sft = sft.run_sft
    monkeypatch.setattr(
        sft, "run_sft", lambda settings, folder: trained.append(folder.name) or run_sft(settings, folder)
    )
    assert main.run_experiment(small_config(), workdir) == summary
    assert trained == [NAMES[1]]


def test_a_sweep_of_other_data_is_refused(finished):
    workdir, _ = finished
    other = small_config()
    other.traces.math = "chains:train?num=41&min_ops=2&max_ops=2"
    with pytest.raises(main.UserError, match=r"holds a sweep with traces.math=.*num=40.* use another --workdir"):
        main.run_experiment(other, workdir)


def test_traces_need_a_task_with_a_solver(tmp_path):
    config = small_config()
    config.traces.math = "aime_2025"
    with pytest.raises(main.UserError, match=r"'aime_2025' has no solver that writes thoughts; take 3sat"):
        main.run_experiment(config, tmp_path)


def test_the_command_needs_a_config_and_a_workdir(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["sweep", "--workdir=x"])
    assert stopped.value.code == 2
    assert "give --config=configs/NAME.py[:ARG] and --workdir=DIR" in capsys.readouterr().err


def test_the_command_is_main_with_a_config_and_overrides(monkeypatch):
    ran = []
    monkeypatch.setattr("absl.app.run", lambda run, *, argv, flags_parser: ran.append((run, argv[1:], flags_parser)))
    cli.main(["sweep", "--config=configs/sweep.py", "--workdir=w", "--config.seeds=(0, 1)"])
    flags = ["--config=configs/sweep.py", "--workdir=w", "--config.seeds=(0, 1)"]
    assert ran == [(main.run_main, flags, main.parse_flags)]
