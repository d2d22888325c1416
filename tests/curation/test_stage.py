from phi4r.curation.engines.grouping import Verdict, settle
from phi4r.curation.stage import GroupStage, ItemStage, Outcome, dropped, failed, kept
from tests.curation.toys import Even, SameLetters, item

ONE = item("a", "xy")


def test_the_two_kinds_of_stages_are_told_apart_by_what_they_can():
    assert isinstance(Even(), ItemStage) and not isinstance(Even(), GroupStage)
    assert isinstance(SameLetters(), GroupStage) and not isinstance(SameLetters(), ItemStage)


def test_an_outcome_is_kept_if_it_has_no_reason():
    assert (kept(ONE).kept, dropped(ONE, "odd").kept, failed(ONE, "refused").kept) == (True, False, False)
    assert (kept(ONE).failed, dropped(ONE, "odd").failed, failed(ONE, "refused").failed) == (False, False, True)


def test_of_several_verdicts_a_reason_comes_before_none_then_the_alphabet_then_notes_then_the_key():
    in_order = [
        Verdict("a reason", False, "k9", {"of": "x"}),
        Verdict("b reason", True, "k1", {"of": "y"}),
        Verdict("b reason", True, "k2", {"of": "z"}),
        Verdict("b reason", True, "k0", {}),
        Verdict("", False, "k0", {"size": 2}),
    ]
    assert sorted(reversed(in_order), key=lambda verdict: verdict.rank) == in_order


def test_the_verdict_that_counts_becomes_the_outcome_of_the_whole_item():
    stage = SameLetters()
    assert settle(stage, ONE, None) == kept(ONE)
    assert settle(stage, ONE, Verdict("odd", False, "k", {})) == dropped(ONE, "odd")
    noted = settle(stage, ONE, Verdict("broken", True, "k", {"of": "b"}))
    assert noted == Outcome(ONE.noted("letters", of="b"), "broken", failed=True)
