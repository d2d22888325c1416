import json
import math

import pytest

from phi4r.errors import UserError
from phi4r.metrics.writer import MetricWriter, read_metrics


def test_every_write_is_one_json_line_with_its_step(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.write(1, {"loss": 2.5, "nll": 2})
        writer.write(2, {"loss": 1.25})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "loss": 2.5, "nll": 2.0},
        {"step": 2, "loss": 1.25},
    ]


def test_a_line_is_on_disk_before_the_writer_is_closed(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write(1, {"loss": 2.5})
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.5}]
    writer.close()


def test_resuming_drops_the_lines_after_the_checkpoint(tmp_path):
    with MetricWriter(tmp_path) as writer:
        for step in range(1, 6):
            writer.write(step, {"loss": float(step)})
    with MetricWriter(tmp_path, resume_step=3) as writer:
        writer.write(4, {"loss": 40.0})
    assert [line["loss"] for line in read_metrics(tmp_path)] == [1.0, 2.0, 3.0, 40.0]
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 1.0}]
    with MetricWriter(tmp_path) as writer:
        writer.write(2, {"loss": 2.0})
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


def test_without_a_resume_step_all_lines_stay(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.write(7, {"loss": 1.0})
    with MetricWriter(tmp_path) as writer:
        writer.write(3, {"loss": 2.0})
    assert [line["step"] for line in read_metrics(tmp_path)] == [7, 3]


def test_nan_is_null_in_the_file_and_nan_when_read(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.write(1, {"length_right": math.nan, "loss": math.inf})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == '{"step": 1, "length_right": null, "loss": null}\n'
    (line,) = read_metrics(tmp_path)
    assert math.isnan(line["length_right"]) and math.isnan(line["loss"])


def test_tensorboard_holds_the_same_scalars(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    with MetricWriter(tmp_path) as writer:
        writer.write(3, {"loss": 0.5})
    (file,) = (tmp_path / "tensorboard").iterdir()
    values = {}
    for record in _tf_records(file.read_bytes()):
        event = Event.FromString(record)
        values.update({(v.tag, event.step): v.simple_value for v in event.summary.value})
    assert values == {("loss", 3): 0.5}


def test_a_workdir_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write metrics to .*--workdir"):
        MetricWriter(tmp_path / "file" / "run")


def test_reading_metrics_that_are_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="there are no metrics"):
        read_metrics(tmp_path)


def test_a_disabled_writer_touches_nothing(tmp_path):
    with MetricWriter(tmp_path / "run", enabled=False) as writer:
        writer.write(1, {"loss": 1.0})
    assert not (tmp_path / "run").exists()


def _tf_records(data: bytes):
    """Splits the TFRecord framing: length (8 bytes), its checksum (4), the record, its checksum (4)."""
    while data:
        length = int.from_bytes(data[:8], "little")
        yield data[12 : 12 + length]
        data = data[16 + length :]
