import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from phi4r.data.tables import read_rows
from phi4r.data.tfds_source import write_tfds
from phi4r.errors import UserError

ROWS = [{"question": "1+1?", "answer": "2"}, {"question": "é, π\n\u2028", "answer": "3"}]


def write(path, kind: str, rows: list[dict]) -> str:
    """Writes rows in one of the formats, as other programs do."""
    file = path / f"rows{kind}"
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if kind == ".jsonl":
        file.write_bytes(lines)
    elif kind == ".jsonl.gz":
        file.write_bytes(gzip.compress(lines))
    elif kind == ".json":
        file.write_text(json.dumps(rows), encoding="utf-8")
    elif kind == ".csv":
        quoted = ['"' + row["question"] + '","' + row["answer"] + '"' for row in rows]
        file.write_text("\r\n".join(["question,answer", *quoted]), encoding="utf-8", newline="")
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return str(file)


@pytest.mark.parametrize("kind", [".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet"])
def test_the_same_rows_come_out_of_every_format(tmp_path, kind):
    rows = read_rows(write(tmp_path, kind, ROWS))
    assert [row for _, row in rows] == ROWS
    assert rows.malformed == []
    assert [row for _, row in rows] == ROWS  # a second time


def test_tfds_rows_come_out_as_they_went_in(tmp_path):
    write_tfds(tmp_path, "small_set", {"test": ROWS})
    rows = read_rows(f"tfds:small_set/test@{tmp_path}")
    assert sorted(row["answer"] for _, row in rows) == ["2", "3"]
    assert all(where.startswith("tfds:small_set/test example ") for where, _ in rows)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b'{"a": 1}\n{"a": 2}\n', [1, 2]),
        (b'{"a": 1}\n{"a": 2}', [1, 2]),  # no newline at the end
        (b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": 2}\r\n', [1, 4]),  # BOM, CRLF, blank lines
    ],
)
def test_lines_are_read_however_they_end(tmp_path, content, lines):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    assert list(read_rows(str(file))) == [(f"{file}:{line}", {"a": i + 1}) for i, line in enumerate(lines)]


@pytest.mark.parametrize(
    "line", [b'{"a": 1', b"[1, 2]", b"7", b'{"a": "\xff"}', b"[" * 100_000, b"nonsense", b"\x00\x00"]
)
def test_malformed_lines_are_kept_with_file_and_line(tmp_path, line):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    rows = read_rows(str(file))
    assert [row["a"] for _, row in rows] == [1, 2]
    (message,) = rows.malformed
    assert message.startswith(f"{file}:2 ")
    assert "\n" not in message


def test_rows_of_a_list_that_are_no_objects_are_malformed(tmp_path):
    file = tmp_path / "rows.json"
    file.write_text('[{"a": 1}, 5, {"a": 2}]')
    rows = read_rows(str(file))
    assert [where for where, _ in rows] == [f"{file} row 1", f"{file} row 3"]
    assert rows.malformed == [f"{file} row 2 must be an object with keys, not int."]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"a": [1, 2], "b": ["x", "y"]}, [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),  # columns
        ({"train": [{"a": 1}], "test": [{"a": 2}]}, [{"a": 1}, {"a": 2}]),  # lists of rows
    ],
)
def test_objects_of_lists_are_columns_or_lists_of_rows(tmp_path, content, expected):
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(content))
    assert [row for _, row in read_rows(str(file))] == expected


def test_rows_of_csv_with_other_columns_than_the_first_line_are_malformed(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(b'\xef\xbb\xbfID,Answer\r\n1,"a\r\nb"\r\n2\r\n3,c,d\r\n4,e\r\n')
    rows = read_rows(str(file))
    assert [row for _, row in rows] == [{"ID": "1", "Answer": "a\r\nb"}, {"ID": "4", "Answer": "e"}]
    assert [message.split(" ")[0] for message in rows.malformed] == [f"{file}:4", f"{file}:5"]


def test_dates_of_parquet_are_text_as_in_json(tmp_path):
    table = pyarrow.table({"day": pyarrow.array([0], pyarrow.timestamp("us"))})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    assert [row for _, row in read_rows(str(tmp_path))] == [{"day": "1970-01-01T00:00:00"}]


def test_a_folder_is_all_its_data_in_the_order_of_names(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"a": 2}\n')
    (tmp_path / "a.JSON").write_text('[{"a": 1}]')
    (tmp_path / "README.md").write_text("no data")
    assert [row["a"] for _, row in read_rows(str(tmp_path))] == [1, 2]


def test_a_pattern_is_the_files_that_match(tmp_path):
    for name in ("test-0.jsonl", "test-1.jsonl", "train-0.jsonl"):
        (tmp_path / name).write_text(json.dumps({"from": name}) + "\n")
    rows = read_rows(str(tmp_path / "test-*.jsonl"))
    assert [row["from"] for _, row in rows] == ["test-0.jsonl", "test-1.jsonl"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.parquet", b"PAR1 and no more", "is not readable as Parquet"),
        ("rows.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 1000, mtime=0)[:-20], "is damaged"),
        ("rows.jsonl.gz", b"not compressed", "is damaged"),
        ("rows.json", b'[{"a": 1},', "is not valid JSON"),
        ("rows.json", b"[" * 100_000, "is not valid JSON"),
        ("rows.json", b"3", "must be a list of rows"),
        ("rows.json", b'{"a": 3}', "other things than lists"),
        ("rows.json", b'{"a": [1], "b": [1, 2]}', "columns of different lengths"),
        ("rows.csv", b"a,b\n\xff,1\n", "is not readable as CSV in UTF-8"),
        ("rows.txt", b"a", "is of no kind that is read here; give one of .jsonl, .jsonl.gz, .json, .csv, .parquet"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path, name, content, message):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(UserError) as refused:
        list(read_rows(str(file)))
    assert str(refused.value).startswith(str(file))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_damage_inside_of_parquet_is_told_as_such(tmp_path):
    place = write(tmp_path, ".parquet", [{"question": "x" * 5000 + str(i), "answer": "1"} for i in range(2000)])
    content = bytearray((tmp_path / "rows.parquet").read_bytes())
    content[100:400] = bytes(300)
    (tmp_path / "rows.parquet").write_bytes(content)
    with pytest.raises(UserError, match="is not readable as Parquet"):
        list(read_rows(place))


@pytest.mark.parametrize("place", ["nowhere", "nowhere.jsonl", "nowhere/*.jsonl"])
def test_places_that_do_not_exist_are_refused(tmp_path, place):
    with pytest.raises(UserError, match=r"no file or folder|holds no data"):
        read_rows(str(tmp_path / place))


def test_a_folder_without_data_names_the_one_below_that_has_some(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="holds no data"):
        read_rows(str(tmp_path))
    (tmp_path / "data" / "rows.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="name a folder in it: data"):
        read_rows(str(tmp_path))
