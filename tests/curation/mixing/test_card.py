import dataclasses
import hashlib
import json

import pytest
from ml_collections import ConfigDict

import phi4r
from phi4r.curation.item import Item
from phi4r.curation.mixing import provenance
from phi4r.curation.mixing.card import config_snippet, write_card
from phi4r.curation.mixing.clusters import ClusterSettings, QualityRule
from phi4r.curation.mixing.mixture import ClusterWeight, MixtureSettings
from phi4r.curation.mixing.output import write_output
from phi4r.curation.mixing.provenance import StageCount, code_version, hashes_of, stage_counts
from phi4r.curation.mixing.survey import OutputSettings

pytest.importorskip("array_record", reason="data sets are ArrayRecord files")

MIXTURE = MixtureSettings((ClusterWeight("math/*", 2.0),))


def item(number, cluster, **fields):
    domain = cluster.partition("/")[0]
    meta = {"clusters": {"domain": domain, "cluster": cluster}}
    return Item(f"i{number}", f"p{number}", "1", "two words", "s", "a | b", "MIT", domain, meta, **fields)


def summary(workdir, folder, **values):
    (workdir / folder).mkdir(parents=True)
    (workdir / folder / "summary.json").write_text(json.dumps(values))


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    """The text of a card, its folder, and what it is about."""
    workdir = tmp_path_factory.mktemp("run")
    summary(workdir, "01-seeds", **{"in": 1200, "out": 1000, "failed": 3, "reasons": {"too short": 47, "twice": 150}})
    summary(workdir, "02-rubric", num_in=1000)
    (workdir / "seeds.jsonl").write_text("one\n")
    rows = [item(number, "math/a/high") for number in range(5)] + [item(9, "safety")]
    data = OutputSettings(name="mine")
    output = write_output(lambda: iter(rows), workdir / "data", output=data, mixture=MIXTURE)
    stages = {
        "clusters": ClusterSettings(quality=(QualityRule("high", "rubric.steps", at_least=7.5),)),
        "other": {"k": 8},
    }
    path = write_card(output, mixture=MIXTURE, settings=stages, workdir=workdir, inputs=[workdir / "seeds.jsonl"])
    assert path == workdir / "data" / "README.md"
    return path.read_text(), workdir, output


def test_the_card_counts_and_says_in_which_unit(card):
    text, workdir, _ = card
    assert text.startswith("# mine\n")
    assert f"| tfds:mine_sft/train@{workdir}/data | 6 |" in text
    assert f"| tfds:mine_rl/train@{workdir}/data | 5 |" in text
    assert "Lengths are in words: no tokenizer was named." in text
    # p, two words, s: 4 words; five items twice and one once are 11 with 44.
    assert "Training traces: 6 with 24 words; the mixture has 6 of them, and one pass over it 11 with 44 words." in text
    assert "| math/a/high | 5 | 20 | 2 | 2 | 10 | 90.9 | 90.9 |" in text


def test_the_card_has_licences_thresholds_hashes_and_the_version_of_the_code(card):
    text, workdir, output = card
    assert "| a \\| b | MIT | 6 |" in text
    assert '"at_least": 7.5' in text and '"k": 8' in text
    digest = hashlib.sha256((workdir / "seeds.jsonl").read_bytes()).hexdigest()
    assert f"| input | {workdir}/seeds.jsonl | {digest} |" in text
    assert f"| output | mine_sft/train | {output.sft.splits['train'].digest} |" in text
    assert f"phi4r {phi4r.__version__}" in text


def test_the_card_has_what_every_stage_counted(card):
    text, *_ = card
    assert "| seeds | 1,200 | 1,000 | 3 |" in text and "| rubric | 1,000 |  |  |" in text
    assert text.index("| seeds | twice | 150 |") < text.index("| seeds | too short | 47 |")


def test_a_card_of_problems_alone_says_so(tmp_path):
    rows = [dataclasses.replace(item(1, "math/a/high"), solution="")]
    output = write_output(lambda: iter(rows), tmp_path, output=OutputSettings(), mixture=MixtureSettings())
    text = write_card(output, mixture=MixtureSettings(), settings={}, workdir=tmp_path).read_text()
    assert "No item has a solution" in text and "config.data.sources" not in text
    assert f'config.task = "jsonl:{tmp_path}/curated_rl_train.jsonl"' in text


def test_the_snippet_is_what_a_config_takes(card):
    _, workdir, output = card
    code = config_snippet(output).removeprefix("```python\n").removesuffix("\n```")
    config = ConfigDict({"data": {}})
    exec(code, {"config": config})
    assert config.data.sources == output.sources
    assert config.task == f"jsonl:{workdir}/data/mine_rl_train.jsonl"


def test_summaries_are_read_in_order_and_broken_ones_left_out(tmp_path):
    summary(tmp_path, "10-last", out=1)
    summary(
        tmp_path,
        "02-first",
        **{"in": 9, "out": 2, "failed": 4, "dropped": 3, "reasons": {"x": 3}, "failures": {"y": 4}},
    )
    (tmp_path / "03-killed").mkdir()
    (tmp_path / "04-broken").mkdir()
    (tmp_path / "04-broken" / "summary.json").write_text("{")
    (tmp_path / "notes-5").mkdir()
    assert stage_counts(tmp_path) == [
        StageCount("first", 9, 2, 4, {"x": 3, "failed: y": 4}),
        StageCount("last", None, 1, None, {}),
    ]


def test_a_file_that_is_gone_is_said_to_be_missing(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert list(hashes_of([tmp_path / "a", tmp_path / "b"]).values()) == [known, "missing"]


def test_the_revision_is_told_in_a_checkout_alone(monkeypatch, tmp_path):
    said = {"rev-parse": "abc123", "status": ""}
    monkeypatch.setattr(provenance, "_git", lambda root, command, *_: said[command])
    package = tmp_path / "phi4r" / "__init__.py"
    monkeypatch.setattr(provenance.phi4r, "__file__", str(package))
    assert code_version() == f"phi4r {phi4r.__version__}"
    (tmp_path / ".git").mkdir()
    assert code_version() == f"phi4r {phi4r.__version__}, git abc123"
    said["status"] = " M setup.py"
    assert code_version() == f"phi4r {phi4r.__version__}, git abc123 with changes"
