import dataclasses

import pytest

from configs.sft_phi4_reasoning import get_config
from phi4r.data.pipeline import SourceSettings
from phi4r.metrics.writer import read_metrics
from phi4r.settings import build
from phi4r.train.sft import SftSettings, run_sft


def settings_of(size):
    sections = get_config(size).to_dict()
    assert sections.pop("experiment") == "sft"
    return build(SftSettings, sections, where="config")


def test_the_config_is_section_3_of_the_paper():
    settings = settings_of("paper")
    assert (settings.num_steps, settings.data.global_batch, settings.data.row_length) == (16_000, 32, 32_768)
    optimizer = settings.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.warmup_steps) == ("adamw", 1e-5, 450)
    assert optimizer.weight_decay == 1e-4
    assert (settings.model.dtype, settings.model.param_dtype) == ("bfloat16", "float32")


def test_the_tiny_config_runs_end_to_end_on_eight_devices(base_folder, traces_file, tmp_path):
    settings = settings_of("tiny")
    data = dataclasses.replace(settings.data, sources=(SourceSettings(f"jsonl:{traces_file}"),))
    settings = dataclasses.replace(settings, init_from=str(base_folder), data=data)
    metrics = run_sft(settings, tmp_path)
    assert metrics["loss"] < read_metrics(tmp_path)[0]["loss"] - 1
    assert (tmp_path / "hf" / "model.safetensors").exists()


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match="'huge' is not a size of this config; take paper or tiny"):
        get_config("huge")
