import json
import pathlib

import pytest

from configs.curate import get_config
from phi4r import main
from phi4r.curation.pipeline import CurateSettings
from phi4r.curation.table import STAGES
from phi4r.errors import UserError
from phi4r.settings import build


def test_the_paper_has_every_stage_of_its_section_and_every_section_is_used():
    config = get_config()
    assert set(config.order) == set(config.stages) == set(STAGES) - {"solutions"}
    # what names them in sections 2.1 and 2.2
    order = [config.order.index(name) for name in ("seeds", "teachability", "traces", "clusters", "output")]
    assert order == sorted(order)


def test_what_a_stage_asks_is_among_the_generators():
    sections = get_config().to_dict()
    asked = {
        sections["stages"]["teachability"]["strong"],
        *sections["stages"]["teachability"]["weak"],
        *sections["stages"]["rubric"]["graders"],
        sections["stages"]["rewriting"]["rewriter"],
        *sections["stages"]["rewriting"]["solvers"],
        *(level["teacher"] for level in sections["stages"]["traces"]["levels"]),
        sections["stages"]["safety"]["teacher"],
    }
    assert asked == set(sections["generators"])


def test_sizes_of_ngrams_are_those_of_the_phi4_report():
    stages = get_config().stages
    for name in ("decontamination", "final_decontamination"):
        assert (stages[name].long_ngram, stages[name].short_ngram) == (13, 7)


def test_what_models_write_is_decontaminated_too():
    config = get_config()
    order = config.order.index
    assert max(order("rewriting"), order("traces"), order("safety")) < order("final_decontamination")
    assert set(config.stages.final_decontamination.fields) == {"prompt", "thought", "solution"}


@pytest.mark.parametrize("size", ["paper", "tiny"])
def test_a_misspelt_field_of_a_stage_is_refused(size):
    sections = get_config(size).to_dict()
    sections.pop("experiment")
    sections["stages"]["screens"]["min_word"] = 3
    with pytest.raises(UserError, match=r"config.stages.screens.min_word is not a setting; did you mean .*min_words"):
        build(CurateSettings, sections, where="config")


def test_tiny_curates_puzzles_into_data_sets_without_a_model(tmp_path):
    pytest.importorskip("datasketch", reason="near duplicates need datasketch")
    from phi4r.data.sources import open_source

    summaries = main.run_experiment(get_config("tiny"), tmp_path / "run")
    assert summaries["seeds"]["sources"] == {
        name: {"in": number, "kept": number, "dropped": 0, "failed": 0, "malformed": 0}
        for name, number in {"chains": 300, "puzzles": 60, "puzzles_again": 30}.items()
    }
    # the second reading of 30 puzzles is all that is the same
    assert summaries["exact_duplicates"]["reasons"] == {"exact duplicate": 30}
    assert summaries["exact_duplicates"]["sources"]["puzzles_again"]["dropped"] == 30
    written = sum(summaries["output"]["data_sets"].values())
    assert written == summaries["held_out"]["out"] > 250
    pages = (tmp_path / "run" / "06-held_out" / "contamination.md").read_text()
    assert f"{summaries['output']['data_sets']['curated_rl/held_out']} held_out" in pages
    train = open_source(f"tfds:curated_rl/train@{tmp_path / 'run' / 'data'}")
    assert {"id", "prompt", "answer"} <= set(train[0])
    card = pathlib.Path(tmp_path / "run" / "data" / "README.md").read_text()
    assert "exact duplicate" in card and "Apache-2.0" in card
    assert json.loads((tmp_path / "run" / "config.json").read_text())["experiment"] == "curate"
