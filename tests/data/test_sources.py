import json
import os
import subprocess
import sys

import pytest

from phi4r.data import sources
from phi4r.data.records import Trace
from phi4r.data.sources import SequenceSource, open_source, write_arrayrecord
from phi4r.data.tfds_source import write_tfds
from phi4r.errors import UserError

ROWS = [{"id": str(i), "prompt": "p" * (i % 7), "note": "é\u2028😀" * (i % 3)} for i in range(20)]
CHAT_ROWS = [
    {"id": str(i), "messages": [{"role": "user", "content": "é" * i}, {"role": "assistant", "content": f"<{i}>"}]}
    for i in range(1, 7)
]


def rows_of(source):
    return [source[index] for index in range(len(source))]


@pytest.fixture
def jsonl(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    lines.insert(3, "")  # line 4 is empty
    path.write_text("\n".join(lines), encoding="utf-8")  # and the last has no newline
    return path


@pytest.mark.parametrize("scan_bytes", [1, 7, 1 << 20])
def test_jsonl_rows_are_found_whatever_the_pieces_of_the_scan(jsonl, monkeypatch, scan_bytes):
    monkeypatch.setattr(sources, "SCAN_BYTES", scan_bytes)
    assert rows_of(open_source(f"jsonl:{jsonl}")) == ROWS


def test_jsonl_rows_know_their_line(jsonl):
    source = open_source(f"jsonl:{jsonl}")
    assert source.where(2) == f"{jsonl}:3"
    assert source.where(3) == f"{jsonl}:5"


def test_jsonl_reads_real_problems_like_json_does(shared_data):
    path = shared_data / "gsm8k" / "test.jsonl"
    expected = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert len(expected) == 1319
    assert rows_of(open_source(f"jsonl:{path}")) == expected


def test_a_bad_jsonl_line_is_named_when_it_is_read(jsonl):
    jsonl.write_text("{}\n\n{oops}\n")
    with pytest.raises(UserError, match=r"rows\.jsonl:3 is not valid JSON"):
        open_source(f"jsonl:{jsonl}")[1]


def test_arrayrecord_files_read_back_in_the_order_of_their_names(tmp_path):
    write_arrayrecord(tmp_path / "rows-00001.array_record", ROWS[8:])
    write_arrayrecord(tmp_path / "rows-00000.array_record", ROWS[:8])
    assert rows_of(open_source(f"arrayrecord:{tmp_path}/rows-*.array_record")) == ROWS
    assert rows_of(open_source(f"arrayrecord:{tmp_path}/rows-00001.array_record")) == ROWS[8:]


def test_a_failed_arrayrecord_write_leaves_nothing(tmp_path):
    def rows():
        yield ROWS[0]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_arrayrecord(tmp_path / "rows.array_record", rows())
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_kind_is_not_arrayrecord(jsonl):
    with pytest.raises(UserError, match="not readable as ArrayRecord") as caught:
        rows_of(open_source(f"arrayrecord:{jsonl}"))
    assert "\n" not in str(caught.value)


@pytest.fixture
def without_tensorflow():
    before = "tensorflow" in sys.modules
    yield
    assert ("tensorflow" in sys.modules) == before


def test_tfds_rows_read_back_without_tensorflow(tmp_path, without_tensorflow):
    write_tfds(tmp_path, "my_chats", {"train": CHAT_ROWS, "test": CHAT_ROWS[:2]})
    train = rows_of(open_source(f"tfds:my_chats/train@{tmp_path}"))
    assert train == CHAT_ROWS
    assert len(open_source(f"tfds:my_chats/test@{tmp_path}")) == 2
    assert rows_of(open_source(f"tfds:my_chats/train[:50%]@{tmp_path}")) == train[:3]


def test_tfds_keeps_traces_with_their_meta(tmp_path, monkeypatch, without_tensorflow):
    trace = Trace("t", "p", "thought", "solution", "", {"year": 2024, "tags": ["a", "b"]})
    write_tfds(tmp_path, "my_traces", {"train": [trace]})
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert Trace.from_dict(open_source("tfds:my_traces/train")[0]) == trace


def test_tfds_takes_the_newest_version_unless_one_is_named(tmp_path):
    write_tfds(tmp_path, "my_chats", {"train": CHAT_ROWS[:1]}, version="9.0.0")
    write_tfds(tmp_path, "my_chats", {"train": CHAT_ROWS[:2]}, version="10.0.0")
    assert len(open_source(f"tfds:my_chats/train@{tmp_path}")) == 2
    assert len(open_source(f"tfds:my_chats:9.0.0/train@{tmp_path}")) == 1


def test_tfds_errors_list_what_is_there(tmp_path):
    write_tfds(tmp_path, "my_chats", {"train": CHAT_ROWS[:1]})
    with pytest.raises(UserError, match=r"no prepared data set 'other' in .*; there: my_chats\."):
        open_source(f"tfds:other/train@{tmp_path}")
    with pytest.raises(UserError, match="no split 'dev'; there: train"):
        open_source(f"tfds:my_chats/dev@{tmp_path}")
    for config in ("easy", "hard"):
        (tmp_path / "configured" / config / "1.0.0").mkdir(parents=True)
        (tmp_path / "configured" / config / "1.0.0" / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match="several configs; name one of configured/easy, configured/hard"):
        open_source(f"tfds:configured/train@{tmp_path}")


def test_tfds_rows_must_agree_in_their_keys(tmp_path):
    with pytest.raises(UserError, match="row 1 of split 'train' has keys"):
        write_tfds(tmp_path, "mixed", {"train": [{"a": "x"}, {"b": "x"}]})
    with pytest.raises(UserError, match="split 'train' of empty has no rows"):
        write_tfds(tmp_path, "empty", {"train": []})


@pytest.mark.parametrize("spec", ["csv:rows.csv", "rows.jsonl", "jsonl:", "tfds"])
def test_an_unknown_source_lists_the_known_ones(spec):
    with pytest.raises(UserError) as caught:
        open_source(spec)
    for kind in ("jsonl:PATH", "arrayrecord:PATH", "tfds:NAME/SPLIT"):
        assert kind in str(caught.value)


@pytest.mark.parametrize("kind", ["jsonl", "arrayrecord"])
def test_a_missing_path_is_named(kind, tmp_path):
    with pytest.raises(UserError, match=f"{kind}: .*{tmp_path}/none"):
        open_source(f"{kind}:{tmp_path}/none")


def test_an_empty_data_set_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    write_arrayrecord(tmp_path / "empty.array_record", [])
    for spec in (f"jsonl:{tmp_path}/empty.jsonl", f"arrayrecord:{tmp_path}/empty.array_record"):
        with pytest.raises(UserError, match="has no rows"):
            open_source(spec)
    with pytest.raises(UserError, match="has no rows"):
        SequenceSource([])


def test_a_sequence_gives_records_as_rows():
    trace = Trace("t", "p", "thought", "solution", "", {})
    source = SequenceSource([trace, ROWS[0]], name="chains")
    assert rows_of(source) == [trace.to_dict(), ROWS[0]]
    assert source.where(1) == "chains row 1"


def test_records_sources_and_packing_do_not_import_jax():
    code = (
        "import sys, phi4r.data.records, phi4r.data.sources, phi4r.data.tfds_source, phi4r.data.packing;"
        "sys.exit('jax' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
