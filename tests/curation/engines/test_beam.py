import functools
import sys

import pytest

from phi4r.curation.engines.beam import BeamSettings, run_beam
from phi4r.curation.engines.local import run_local
from phi4r.curation.intake.duplicates import ExactDuplicates, ExactSettings, NearDuplicates, NearSettings
from phi4r.curation.intake.screens import Screens, ScreenSettings
from phi4r.errors import UserError
from tests.curation.toys import Even, SameLetters, item, run

beam = functools.partial(run_beam, settings=BeamSettings())


@pytest.fixture(autouse=True)
def apache_beam():
    return pytest.importorskip("apache_beam", reason="the engine for clusters needs apache-beam")


NUMBERS = [item(f"{n:02d}", prompt) for n, prompt in enumerate(["4", "7", "x", "0", "12", "3", "8"])]
WORDS = [item(id, prompt) for id, prompt in {"d": "xz", "c": "yz", "b": "xy", "a": "q", "e": "zyx", "f": "qr"}.items()]


@pytest.mark.parametrize(("make", "items"), [(Even, NUMBERS), (SameLetters, WORDS)], ids=["items", "groups"])
def test_outcomes_and_their_order_are_those_of_one_process(tmp_path, make, items):
    here = run(run_local, make, items, tmp_path, size=2)
    assert run(beam, make, items, tmp_path, size=2) == here
    assert {outcome.kept for outcome in here} == {True, False}


REAL = {
    "exact duplicates": lambda: ExactDuplicates(ExactSettings()),
    "near duplicates": lambda: NearDuplicates(NearSettings(threshold=0.6)),
    "screens": lambda: Screens(ScreenSettings(min_letters=0.8)),
}


@pytest.mark.parametrize("make", REAL.values(), ids=REAL)
def test_the_stages_that_ask_no_model_do_the_same_on_both_engines(tmp_path, make):
    text = "the cat sat on the mat and looked at all the birds in the garden"
    prompts = [text[: 35 + 5 * (n % 6)] + "." * (n % 2) + f" {n}" * (n % 5) for n in range(40)]
    items = [item(f"{n * 7 % 40:02d}", prompt, source="ab"[n % 2]) for n, prompt in enumerate(prompts)]
    here = run(run_local, make, items, tmp_path, size=7)
    assert run(beam, make, items, tmp_path, size=7) == here
    assert {outcome.kept for outcome in here} == {True, False}


def test_no_items_have_no_outcomes(tmp_path):
    assert run(beam, Even, [], tmp_path) == run(beam, SameLetters, [], tmp_path) == []


def test_a_mistake_that_a_worker_finds_is_told_as_it_is(tmp_path):
    class Refusing(Even):
        def __call__(self, items):
            raise UserError("the model is gone; start it again.")

    with pytest.raises(UserError, match=r"^the model is gone; start it again\.$"):
        run(beam, Refusing, NUMBERS, tmp_path)


def test_a_bug_in_a_worker_keeps_its_name(tmp_path):
    class Broken(Even):
        def __call__(self, items):
            raise ZeroDivisionError("in the stage")

    with pytest.raises(Exception, match="in the stage"):
        run(beam, Broken, NUMBERS, tmp_path)


def test_a_scratch_folder_of_its_own_is_used_and_left_empty(tmp_path):
    (tmp_path / "shared").mkdir()
    apart = functools.partial(run_beam, settings=BeamSettings(scratch=str(tmp_path / "shared")))
    assert run(apart, Even, NUMBERS, tmp_path) == run(run_local, Even, NUMBERS, tmp_path)
    assert not list((tmp_path / "shared").iterdir())


def test_without_beam_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"needs Apache Beam: pip install -e '\.\[beam\]'"):
        run(beam, Even, NUMBERS, tmp_path)
