import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from phi4r.curation import pipeline, table
from phi4r.curation.pipeline import CurateSettings, run_curate
from phi4r.curation.shards import kept_files, read_items
from phi4r.curation.table import StageEntry
from phi4r.errors import UserError
from phi4r.settings import build
from tests.curation.toys import Even, SameLetters

PROMPTS = ["4", "7", "x", "0", "12", "3", "8", "4"]  # four even ones, one of them twice, two odd ones, no number
FILES = ("kept-*.jsonl", "dropped.jsonl", "quarantine.jsonl", "examples.md")


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """Two toy stages in the table."""
    even = StageEntry("intake.duplicates", "ExactSettings", lambda settings, context: Even())
    letters = StageEntry("intake.duplicates", "ExactSettings", lambda settings, context: SameLetters())
    monkeypatch.setattr(table, "STAGES", {**table.STAGES, "even": even, "letters": letters})


def config(tmp_path, prompts=PROMPTS, *, order=("seeds", "even", "letters"), stages=None, **fields):
    """The sections of a run whose seeds are `prompts`, with numbers for ids."""
    path = tmp_path / "seeds.jsonl"
    rows = [
        row if isinstance(row, str) and row[:1] == "{" else json.dumps({"id": n, "prompt": row})
        for n, row in enumerate(prompts)
    ]
    path.write_text("\n".join(rows))
    seeds = {"sources": {"s": {"place": str(path), "licence": "MIT"}}}
    return {"order": order, "stages": {"seeds": seeds, **(stages or {})}, "shard_size": 3, **fields}


def curate(tmp_path, *args, **fields):
    sections = config(tmp_path, *args, **fields)
    (tmp_path / "sections.json").write_text(json.dumps(sections))
    return run_curate(build(CurateSettings, sections, where="config"), tmp_path / "run")


def ids(folder):
    return [item.id for item in read_items(kept_files(folder))]


def contents(workdir, files=FILES):
    """What all stages left, but for times."""
    paths = sorted(path for kind in files for path in workdir.glob(f"[0-9]*/{kind}"))
    return {str(path.relative_to(workdir)): path.read_bytes() for path in paths}


def test_each_stage_leaves_what_it_kept_and_dropped_with_counts(tmp_path):
    summaries = curate(tmp_path)
    workdir = tmp_path / "run"
    assert ids(workdir / "00-seeds") == [f"s/{n}" for n in range(8)]
    assert [path.name for path in kept_files(workdir / "00-seeds")] == [f"kept-0000{n}.jsonl" for n in range(3)]
    assert ids(workdir / "01-even") == ["s/0", "s/3", "s/4", "s/6", "s/7"]
    assert ids(workdir / "02-letters") == ["s/0", "s/3", "s/4", "s/6"]  # the second "4" has the digit of the first
    counts = {name: (summary["in"], summary["out"]) for name, summary in summaries.items()}
    assert counts == {"seeds": (8, 8), "even": (8, 5), "letters": (5, 4)}
    even = json.loads((workdir / "01-even" / "summary.json").read_text())
    assert even == summaries["even"]
    assert (even["dropped"], even["failed"], even["malformed"]) == (2, 1, 0)
    assert even["reasons"] == {"odd": 2} and even["failures"] == {"no number": 1}
    assert even["sources"] == {"s": {"in": 8, "kept": 5, "dropped": 2, "failed": 1, "malformed": 0}}
    assert even["settings"] == {"prefer": []} and even["engine"] == "local" and even["versions"]["phi4r"]
    dropped = [json.loads(line) for line in (workdir / "01-even" / "dropped.jsonl").open()]
    assert [(row["item"]["id"], row["reason"]) for row in dropped] == [("s/1", "odd"), ("s/5", "odd")]
    [failure] = [json.loads(line) for line in (workdir / "01-even" / "quarantine.jsonl").open()]
    assert (failure["where"], failure["reason"], failure["item"]["prompt"]) == ("s/2", "no number", "x")


def test_the_hashes_of_a_summary_are_those_of_the_files(tmp_path):
    summaries = curate(tmp_path)
    kept = b"".join(path.read_bytes() for path in kept_files(tmp_path / "run" / "01-even"))
    assert summaries["even"]["output"] == summaries["letters"]["input"] == hashlib.sha256(kept).hexdigest()


def test_examples_show_kept_and_dropped_items_reason_by_reason(tmp_path):
    curate(tmp_path, num_examples=1)
    text = (tmp_path / "run" / "01-even" / "examples.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# even",
        "## kept (5)",
        "## odd (2)",
        "## no number (1)",
    ]
    assert text.count("| s/") == 3 and "| s/2 | s | x |" in text


def test_a_finished_stage_is_not_run_again(tmp_path, monkeypatch, capsys):
    curate(tmp_path)
    before = contents(tmp_path / "run", ("*",))
    monkeypatch.setattr(pipeline, "run_local", lambda *args: pytest.fail("a stage was run"))
    again = curate(tmp_path)
    assert contents(tmp_path / "run", ("*",)) == before
    assert again["letters"]["out"] == 4 and capsys.readouterr().out.count("(finished before)") == 3


def test_changed_settings_run_a_stage_again_and_what_its_output_changes(tmp_path, capsys):
    curate(tmp_path)
    capsys.readouterr()
    curate(tmp_path, stages={"even": {"prefer": ("s",)}})
    said = capsys.readouterr().out
    assert "01-even: settings.prefer was [] and is now ['s']; it is run again" in said
    assert said.count("(finished before)") == 2  # the seeds, and letters: its input is the same


def test_a_changed_seed_is_noticed_and_nothing_old_is_left_among_the_new(tmp_path):
    curate(tmp_path)
    curate(tmp_path, [*PROMPTS[:7], "5", "66"], until="even")
    workdir = tmp_path / "run"
    assert ids(workdir / "01-even") == ["s/0", "s/3", "s/4", "s/6", "s/8"]
    assert not (workdir / "02-letters").exists() and (workdir / "replaced" / "02-letters" / "summary.json").exists()
    assert curate(tmp_path, [*PROMPTS[:7], "5", "66"])["letters"]["in"] == 5


def test_a_stage_that_the_order_has_no_more_is_moved_away(tmp_path):
    curate(tmp_path)
    curate(tmp_path, order=("seeds", "letters"))
    folders = sorted(path.name for path in (tmp_path / "run").glob("[0-9]*"))
    assert folders == ["00-seeds", "01-letters"]
    assert sorted(path.name for path in (tmp_path / "run" / "replaced").iterdir()) == ["01-even", "02-letters"]


def test_part_of_the_stages_can_be_run(tmp_path):
    assert list(curate(tmp_path, until="even")) == ["seeds", "even"]
    assert not (tmp_path / "run" / "02-letters").exists()
    assert list(curate(tmp_path, only="letters")) == ["seeds", "even", "letters"]
    with pytest.raises(UserError, match=r"--only=letters: even comes before it: settings.prefer was \[\] and is now"):
        curate(tmp_path, only="letters", stages={"even": {"prefer": ("s",)}})


def test_one_stage_needs_those_before_it(tmp_path):
    with pytest.raises(UserError, match="--only=letters: seeds comes before it: not finished; run --until=seeds first"):
        curate(tmp_path, only="letters")


def test_a_stage_that_breaks_leaves_no_half_of_itself_and_the_next_run_is_as_if_it_had_not(tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    curate(tmp_path / "whole")

    class Breaking(Even):
        def __call__(self, items):
            if items[0].id == "s/3":  # of the second batch
                raise KeyboardInterrupt
            return super().__call__(items)

    broken = StageEntry("intake.duplicates", "ExactSettings", lambda settings, context: Breaking())
    with monkeypatch.context() as patched:
        patched.setitem(table.STAGES, "even", broken)
        with pytest.raises(KeyboardInterrupt):
            curate(tmp_path)
    assert sorted(path.name for path in (tmp_path / "run").glob("[0-9]*")) == ["00-seeds", "01-even.partial"]
    curate(tmp_path)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole" / "run")
    assert not list((tmp_path / "run").glob("*.partial"))


KILLED = """
import sys, time
from phi4r.curation.intake import duplicates
from phi4r.curation.pipeline import CurateSettings, run_curate
from phi4r.settings import build
import json

def slowly(self, item):
    time.sleep(0.02)
    return keys(self, item)

keys, duplicates.ExactDuplicates.keys = duplicates.ExactDuplicates.keys, slowly
run_curate(build(CurateSettings, json.loads(sys.argv[1]), where="config"), sys.argv[2])
"""


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, repository):
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    prompts = [f"Add {one} to {other} and say what it makes." for one in words for other in words]
    sections = config(tmp_path, prompts, order=("seeds", "exact_duplicates", "near_duplicates", "screens"))
    process = subprocess.Popen([sys.executable, "-c", KILLED, json.dumps(sections), tmp_path / "run"], cwd=repository)
    partial = tmp_path / "run" / "01-exact_duplicates.partial" / "scratch" / "digests.jsonl"
    while not partial.exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "01-exact_duplicates").exists()
    settings = build(CurateSettings, sections, where="config")
    run_curate(settings, tmp_path / "run")
    run_curate(settings, tmp_path / "whole")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert sum(1 for _ in read_items(kept_files(tmp_path / "run" / "01-exact_duplicates"))) == 144


def test_malformed_rows_are_quarantined_with_their_places_or_stop_the_run(tmp_path):
    prompts = ["4", "{broken", "6"]
    curate(tmp_path, prompts)
    [row] = [json.loads(line) for line in (tmp_path / "run" / "00-seeds" / "quarantine.jsonl").open()]
    assert row["where"] == f"{tmp_path}/seeds.jsonl:2" and "not valid JSON" in row["reason"] and row["item"] is None
    assert curate(tmp_path, prompts)["seeds"]["malformed"] == 1
    (tmp_path / "stop").mkdir()
    with pytest.raises(UserError, match=r"seeds: .*seeds.jsonl:2 is not valid JSON.*--config.on_error=quarantine"):
        curate(tmp_path / "stop", prompts, on_error="stop")


def test_an_item_that_cannot_be_decided_stops_the_run_where_it_should(tmp_path):
    with pytest.raises(UserError, match="even: item s/2: no number; mend it, or go on without it by"):
        curate(tmp_path, on_error="stop")
    assert not (tmp_path / "run" / "01-even").exists()


def test_the_seeds_are_in_a_database_that_says_when_they_came(tmp_path):
    from phi4r.curation.intake.seed_database import SeedDatabase

    curate(tmp_path, until="seeds")
    curate(tmp_path, [*PROMPTS, "10"], until="seeds")
    database = SeedDatabase(tmp_path / "run" / "seeds.sqlite")
    assert [(row["version"], row["num_new"]) for row in database.imports()] == [(1, 8), (2, 1)]
    assert [first for first, _ in database.read()] == [1] * 8 + [2]
    database.close()


def test_items_that_nothing_is_left_of_go_through_all_stages(tmp_path):
    summaries = curate(tmp_path, ["1", "3"])
    assert summaries["letters"]["in"] == summaries["letters"]["out"] == 0


def test_both_engines_leave_the_same_files(tmp_path):
    pytest.importorskip("apache_beam", reason="the engine for clusters needs apache-beam")
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    prompts = [f"{one} {other}, {other} {one}: add {one} to {other}; what is it?" for one in words for other in words]
    order = ("seeds", "exact_duplicates", "near_duplicates", "screens")
    prompts += [prompts[3].upper(), prompts[4] + "!", "Zähle bitte alle roten Äpfel in diesem großen Korb."]
    for engine in ("local", "beam"):
        (tmp_path / engine).mkdir()
        summaries = curate(tmp_path / engine, prompts, order=order, engine=engine)
        assert all(summaries[name]["dropped"] for name in order[1:])
    assert contents(tmp_path / "beam" / "run") == contents(tmp_path / "local" / "run")


def traces(tmp_path, **fields):
    """The sections of a run in which a recorded teacher answers."""
    prompts = [f"What is {n} and {n}?" for n in range(9)]
    told = [{"prompt": p, "completion": f"<think>{n} twice.</think>{2 * n}"} for n, p in enumerate(prompts)]
    (tmp_path / "teacher.jsonl").write_text("\n".join(map(json.dumps, told[:8])))
    generator = {"kind": "recorded", "path": str(tmp_path / "teacher.jsonl"), "thinking": True}
    stage = {"levels": ({"name": "medium", "teacher": "teacher", "samples": 1},)}
    order = ("seeds", "traces")
    return curate(tmp_path, prompts, order=order, generators={"teacher": generator}, stages={"traces": stage}, **fields)


def test_a_stage_that_asks_models_leaves_the_same_files_on_both_engines(tmp_path):
    pytest.importorskip("apache_beam", reason="the engine for clusters needs apache-beam")
    for engine in ("local", "beam"):
        (tmp_path / engine).mkdir()
        summary = traces(tmp_path / engine, engine=engine)["traces"]
        assert (summary["in"], summary["out"], summary["failed"]) == (9, 8, 1)
    assert contents(tmp_path / "beam" / "run") == contents(tmp_path / "local" / "run")
    items = list(read_items(kept_files(tmp_path / "local" / "run" / "01-traces")))
    assert (items[3].thought, items[3].solution) == ("3 twice.", "6")


def test_a_changed_file_that_a_stage_reads_is_noticed(tmp_path, capsys):
    traces(tmp_path)
    settings = build(CurateSettings, json.loads((tmp_path / "sections.json").read_text()), where="config")
    path = tmp_path / "teacher.jsonl"
    path.write_text(path.read_text().replace("twice", "two times"))
    capsys.readouterr()
    run_curate(settings, tmp_path / "run")
    assert f"01-traces: the file {path} has changed; it is run again" in capsys.readouterr().out
    assert next(read_items(kept_files(tmp_path / "run" / "01-traces"))).thought == "0 two times."


BAD = {
    "unknown stage": (
        {"order": ("seeds", "screns")},
        "config.order: there is no stage 'screns'; did you mean 'screens'",
    ),
    "unknown section": ({"stages": {"seed": {}}}, "config.stages: there is no stage 'seed'; did you mean 'seeds'"),
    "unknown field": ({"stages": {"even": {"prefr": ()}}}, "config.stages.even.prefr is not a setting; did you mean"),
    "no seeds": ({"order": ("even",)}, "config.order must begin with 'seeds'"),
    "twice": ({"order": ("seeds", "even", "even")}, "config.order has a stage twice"),
    "output first": ({"order": ("seeds", "output", "even")}, "config.order has stages after 'output'"),
    "not in order": ({"only": "screens"}, "config.only=screens is not in config.order, seeds, even, letters"),
    "both": ({"only": "even", "until": "even"}, "give only or until, not both"),
    "shard size": ({"shard_size": 0}, "needs shard_size >= 1"),
    "engine": ({"engine": "spark"}, r"config.engine must be one of \['local', 'beam'\], not 'spark'"),
    "source to prefer": (
        {"order": ("seeds", "exact_duplicates"), "stages": {"exact_duplicates": {"prefer": ("z",)}}},
        "config.stages.exact_duplicates.prefer: there is no source 'z'; there are s",
    ),
    "source of problems": (
        {"order": ("seeds", "output"), "stages": {"output": {"data": {"problem_sources": ("ss",)}}}},
        "config.stages.output.data.problem_sources: there is no source 'ss'; did you mean 's'",
    ),
    "tokenizer of a later stage": (
        {"order": ("seeds", "screens"), "stages": {"screens": {"tokenizer": "nowhere", "max_tokens": 9}}},
        "config.stages.screens.tokenizer: there is no file or folder nowhere; check the path",
    ),
    "generator of a later stage": (
        {
            "order": ("seeds", "even", "rubric"),
            "stages": {"rubric": {"graders": ("strng",)}},
            "generators": {"strong": {"kind": "endpoint", "endpoint": {"base_url": "http://x/v1", "model": "m"}}},
        },
        r"the stage rubric asks the generator 'strng', which there is not \(there are: strong\)",
    ),
    "recording that a stage asks": (
        {
            "order": ("seeds", "traces"),
            "stages": {"traces": {"levels": ({"name": "m", "teacher": "a", "samples": 1},)}},
            "generators": {"a": {"kind": "recorded", "path": "nowhere.jsonl"}},
        },
        "config.generators.a.path: there is no file or folder nowhere.jsonl",
    ),
    "generator": ({"generators": {"a": {"kind": "endpoint"}}}, "needs the section endpoint"),
}


@pytest.mark.parametrize(("fields", "message"), BAD.values(), ids=BAD)
def test_a_config_with_a_mistake_is_one_line_before_anything_is_written(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        curate(tmp_path, **fields)
    assert not (tmp_path / "run").exists()


def test_a_workdir_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        curate(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_no_file_of_a_finished_stage_is_a_scratch_file(tmp_path):
    curate(tmp_path)
    names = {path.name for path in (tmp_path / "run" / "02-letters").rglob("*")}
    assert names == {
        "kept-00000.jsonl",
        "kept-00001.jsonl",
        "dropped.jsonl",
        "quarantine.jsonl",
        "summary.json",
        "examples.md",
    }
