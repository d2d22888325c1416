"""The command as a person calls it; what it compiles runs in processes of its own."""

import importlib.util
import json

import pytest

from phi4r.model.config import ModelConfig
from phi4r.planning import compile as compiling
from phi4r.planning import devices
from phi4r.planning.topologies import parse_topology
from phi4r.tools import cli

TINY = ModelConfig(
    vocab_size=512,
    num_layers=2,
    embed_dim=128,
    num_heads=4,
    num_kv_heads=2,
    head_dim=64,
    mlp_dim=256,
    max_positions=512,
)


@pytest.fixture
def plan(tmp_path, repository, monkeypatch, capsys):
    """Calls `phi4r plan` on the small SFT config; returns exit code, output and errors."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY.to_hf()))
    monkeypatch.chdir(repository)

    def plan(*flags: str):
        argv = ["plan", "--config=configs/sft_phi4_reasoning.py:tiny", f"--cache={tmp_path / 'cache'}"]
        code = 0
        try:
            cli.main([*argv, f"--config.init_from={folder}", *flags])
        except SystemExit as stopped:
            code = stopped.code
        out, err = capsys.readouterr()
        return code, out, err

    return plan


def test_a_plan_is_printed_and_the_second_one_comes_from_the_cache(plan):
    flags = "--topology=cpu:8", "--program=update", "--config.mesh.tensor=2", "--config.num_microbatches=1"
    code, out, err = plan(*flags)
    assert (code, err) == (0, "")
    assert "mesh data=1, fsdp=-1, context=1, tensor=2" in out
    assert "update: SFT step" in out and "FITS" in out and "(from the cache)" not in out
    assert out.count("compiled, not run") >= 2
    code, out, _ = plan(*flags, "--json")
    answer = json.loads(out)
    program = answer["programs"]["update"]
    assert answer["label"] == program["label"] == "compiled, not run"
    assert answer["fits"] and program["cached"] and program["total"] == sum(program["memory"].values())
    assert program["num_tokens"] == 16 * 128


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--topology=v9:2x2"], "Known: v5e:2x2"),
        (["--topology=cpu:8", "--config.mesh.fsdp=3"], "does not fit 8 devices"),
        (["--topology=cpu:8", "--config.modle.remat=none"], "modle"),
        (["--topology=cpu:8", "--hbm_gib=0"], "must be positive"),
        (["--topology=cpu:8", "rubbish"], "'rubbish' is not a flag"),
    ],
)
def test_bad_input_is_one_line(plan, flags, message):
    code, out, err = plan(*flags)
    assert (code, out) == (2, "")
    assert message in err and len(err.splitlines()) == 1


def test_other_commands_take_no_overrides(capsys):
    with pytest.raises(SystemExit):
        cli.main(["plot-reward", "out.png", "--config.a=1"])
    assert "unrecognized arguments: --config.a=1" in capsys.readouterr().err


@pytest.mark.parametrize(("topology", "extra"), [("v5p:2x2x1", "[tpu]"), ("h100:8", "[cuda]")])
def test_a_missing_compiler_is_named_with_its_extra(plan, monkeypatch, topology, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, err = plan(f"--topology={topology}")
    assert code == 2 and f"pip install -e '.{extra}'" in err


def test_a_compiler_that_crashes_is_one_line(plan, monkeypatch):
    monkeypatch.setattr(compiling, "WORKER", ["-c", "import os; os.abort()"])
    code, _, err = plan("--topology=cpu:8", "--program=update")
    assert code == 2 and "stopped with signal 6" in err and len(err.splitlines()) == 1


def test_a_gpu_that_is_not_there_is_planned_for(plan):
    try:
        devices.require_compiler(parse_topology("h100:8"))
    except Exception as error:
        pytest.skip(str(error))
    code, out, err = plan("--topology=h100:8", "--program=update", "--config.num_microbatches=1", "--json")
    assert (code, err) == (0, "")
    program = json.loads(out)["programs"]["update"]
    assert program["fits"] and program["refusal"] is None
    assert program["roofline"]["compute_s"] > 0 and program["roofline"]["memory_s"] > 0
    assert program["traffic"]["by_kind"]["all-gather"] > 0
