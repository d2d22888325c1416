import csv
import json

import pytest

from phi4r.curation.folder import Malformed
from phi4r.curation.intake.seed_database import SeedDatabase
from phi4r.curation.intake.seeds import Seeds, SeedSettings, SourceSettings
from phi4r.curation.item import Item, item_id
from phi4r.curation.stage import dropped, failed, kept
from phi4r.errors import UserError
from phi4r.settings import build

ROWS = [{"id": "1", "prompt": "One?", "answer": "1"}, {"id": "2", "prompt": "Two?", "answer": "2"}]


def jsonl(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def read(tmp_path, sources, **settings):
    """The results of a stage whose sources are sections of a config."""
    section = {"sources": {name: {"licence": "MIT", **source} for name, source in sources.items()}, **settings}
    stage = Seeds(build(SeedSettings, section, where="seeds"), tmp_path / "seeds.sqlite", reserved=("screens",))
    return list(stage.results())


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path, rows):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


KINDS = {
    "seeds.jsonl": jsonl,
    "seeds.json": lambda path, rows: path.write_text(json.dumps(rows)),
    "seeds.csv": write_csv,
    "seeds.parquet": write_parquet,
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_seeds(tmp_path, name):
    KINDS[name](tmp_path / name, ROWS)
    expected = [Item(f"s/{n}", f"{word}?", n, source="s", licence="MIT") for n, word in [("1", "One"), ("2", "Two")]]
    assert read(tmp_path, {"s": {"place": str(tmp_path / name)}}) == [kept(item) for item in expected]


def test_a_prepared_data_set_gives_the_same_seeds(tmp_path):
    from phi4r.data.tfds_source import write_tfds

    write_tfds(tmp_path, "small", {"train": ROWS})
    results = read(tmp_path, {"s": {"place": f"tfds:small/train@{tmp_path}"}})
    assert [result.item.prompt for result in results] == ["One?", "Two?"]


def test_fields_are_renamed_texts_tidied_and_the_rest_goes_into_meta(tmp_path):
    row = {
        "question": " What\r\nnow? ",
        "answer": "Two, so\n#### 2",
        "level": 3,
        "screens": "a",
        "meta": {"year": 1999},
    }
    place = jsonl(tmp_path / "f.jsonl", [row])
    fields = {"prompt": "question", "solution": "answer"}
    [result] = read(tmp_path, {"s": {"place": place, "fields": fields, "answer_after": "####", "domain": "math"}})
    assert result.item == Item(
        id=item_id("s", "What\nnow?"),
        prompt="What\nnow?",
        answer="2",
        solution="Two, so",
        source="s",
        licence="MIT",
        domain="math",
        meta={"year": 1999, "level": 3, "row_screens": "a"},
    )


def test_a_domain_that_rows_name_counts_where_fields_say_so_or_the_source_has_none(tmp_path):
    place = jsonl(tmp_path / "f.jsonl", [{"prompt": "One?", "domain": "algebra", "area": "logic"}])

    def domain(**source):
        [result] = read(tmp_path, {"s": {"place": place, **source}})
        return result.item.domain, result.item.meta.get("row_domain")

    assert domain() == ("algebra", None)
    assert domain(domain="math") == ("math", "algebra")
    assert domain(domain="math", fields={"domain": "area"}) == ("logic", "algebra")


def test_labels_that_are_no_text_stay_in_meta(tmp_path):
    place = jsonl(tmp_path / "f.jsonl", [{"prompt": "One?", "domain": ["a", "b"], "licence": None}])
    [result] = read(tmp_path, {"s": {"place": place}})
    assert (result.item.domain, result.item.licence) == ("", "MIT")
    assert result.item.meta == {"row_domain": ["a", "b"], "row_licence": None}


def test_gsm8k_is_read_with_its_answers(tmp_path, shared_data):
    source = {
        "place": str(shared_data / "gsm8k" / "train.jsonl"),
        "fields": {"prompt": "question", "solution": "answer"},
        "answer_after": "####",
        "limit": 100,
    }
    items = [result.item for result in read(tmp_path, {"gsm8k": source})]
    assert len(items) == 100
    assert items[0].prompt.startswith("Natalia sold clips to 48 of her friends") and items[0].answer == "72"
    assert items[0].solution.startswith("Natalia sold 48/2") and "####" not in items[0].solution
    assert all(item.answer.replace(",", "").isdigit() for item in items)


def test_problems_of_a_task_are_seeds(tmp_path):
    spec = "chains:train?num=3&min_ops=2&max_ops=2"
    results = read(tmp_path, {"s": {"place": f"task:{spec}"}})
    assert [result.item.prompt[:6] for result in results] == ["chain "] * 3
    assert all(result.item.answer in set("0123456789") and result.item.meta["num_ops"] == 2 for result in results)
    assert all(result.item.meta["seeds"] == {"task": spec} for result in results)


def test_bad_rows_are_named_with_file_and_line_and_the_others_go_on(tmp_path):
    rows = [ROWS[0], "{broken", {"id": "3", "answer": "3"}, {"prompt": ["a"]}, '["list"]', ROWS[1], "{"]
    results = read(tmp_path, {"s": {"place": jsonl(tmp_path / "f.jsonl", rows)}})
    assert [result.item.id for result in results if not isinstance(result, Malformed)] == ["s/1", "s/2"]
    malformed = [result for result in results if isinstance(result, Malformed)]
    assert sorted(result.where for result in malformed) == [f"{tmp_path}/f.jsonl:{line}" for line in (2, 3, 4, 5, 7)]
    reasons = {result.where[-1]: result.reason for result in malformed}
    assert "is not valid JSON" in reasons["2"] and "has no 'prompt'" in reasons["3"]
    assert "'prompt' must be text, not list" in reasons["4"] and "must be a JSON object" in reasons["5"]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"denied_licences": ("*-nc-*",)}, ["MIT", "CC-BY-4.0"]),
        ({"allowed_licences": ("CC-BY-*",)}, ["CC-BY-4.0", "CC-BY-NC-4.0"]),
        ({"allowed_licences": ("CC-BY-*",), "denied_licences": ("*-NC-*",)}, ["CC-BY-4.0"]),
        ({}, ["MIT", "CC-BY-4.0", "CC-BY-NC-4.0"]),
    ],
)
def test_seeds_of_a_licence_that_forbids_use_are_failures_and_not_in_the_database(tmp_path, policy, expected):
    rows = [{"id": "1", "prompt": "One?"}, {"id": "2", "prompt": "Two?", "licence": "CC-BY-4.0"}]
    rows.append({"id": "3", "prompt": "Three?", "licence": "CC-BY-NC-4.0"})
    results = read(tmp_path, {"s": {"place": jsonl(tmp_path / "f.jsonl", rows)}}, **policy)
    assert [result.item.licence for result in results if result.kept] == expected
    assert [result for result in results if not result.kept] == [
        failed(result.item, f"licence {result.item.licence} is not allowed") for result in results if not result.kept
    ]
    database = SeedDatabase(tmp_path / "seeds.sqlite")
    assert [item.licence for _, item in database.read()] == expected
    database.close()


def test_the_same_row_again_is_dropped_and_one_that_says_something_else_fails(tmp_path):
    rows = [{"prompt": "One?", "answer": "1"}, {"prompt": " One? ", "answer": "1"}, {"prompt": "One?", "answer": "2"}]
    one, again, other = read(tmp_path, {"s": {"place": jsonl(tmp_path / "f.jsonl", rows)}})
    assert one == kept(one.item)
    assert again == dropped(one.item, "the same row again")
    assert other == failed(other.item, "another row of this id or prompt differs") and other.item.answer == "2"


def test_sources_are_read_in_the_order_of_their_names_and_equal_ids_of_two_do_not_meet(tmp_path):
    place = jsonl(tmp_path / "f.jsonl", ROWS)
    results = read(tmp_path, {"b": {"place": place, "limit": 1}, "a": {"place": place}})
    assert [result.item.id for result in results] == ["a/1", "a/2", "b/1"]


def test_the_hash_of_the_rows_changes_with_any_of_them_and_not_with_their_file(tmp_path):
    def survey(name, rows, limit=0):
        source = SourceSettings(jsonl(tmp_path / name, rows), "MIT", limit=limit)
        return Seeds(SeedSettings({"s": source}), tmp_path / "seeds.sqlite").survey()

    digest, num_rows = survey("f.jsonl", ROWS)
    assert num_rows == 2 and (digest, 2) == survey("g.jsonl", ROWS)
    assert survey("h.jsonl", [ROWS[0], {**ROWS[1], "answer": "3"}])[0] != digest
    assert survey("f.jsonl", ROWS, limit=1) == survey("i.jsonl", ROWS[:1])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"place": "{folder}/none.jsonl"}, "there is no file or folder"),
        ({"place": "{folder}/empty.jsonl"}, "the source 's' has no seeds: no row of .*/empty.jsonl is one"),
        ({"place": "{folder}/broken.jsonl"}, r"has no seeds: no row of .* is one \(.*broken.jsonl:1 is not valid JSON"),
        ({"place": "{folder}/f.jsonl", "licence": " "}, "needs place, where its rows are, and licence"),
        ({"place": "{folder}/f.jsonl", "fields": {"promt": "q"}}, "fields has 'promt'; items have id, prompt"),
        (
            {"place": "{folder}/f.jsonl", "answer_after": "####"},
            "'answer' has no '####', after which the answer stands",
        ),
        ({"place": "{folder}/f.jsonl", "limit": -1}, "limit=-1 must be at least 1"),
        ({"plaec": "{folder}/f.jsonl"}, r"seeds.sources.s.plaec is not a setting; did you mean seeds.sources.s.place"),
    ],
)
def test_a_source_that_cannot_be_is_one_line(tmp_path, source, message):
    jsonl(tmp_path / "f.jsonl", ROWS)
    jsonl(tmp_path / "broken.jsonl", ["{"])
    (tmp_path / "empty.jsonl").write_text("")
    filled = {key: value.format(folder=tmp_path) if isinstance(value, str) else value for key, value in source.items()}
    with pytest.raises(UserError, match=message):
        read(tmp_path, {"s": filled})
