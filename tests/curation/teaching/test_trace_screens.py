import pytest

from phi4r.curation.teaching.trace_screens import Screened, ScreenSettings, TraceScreens
from phi4r.errors import UserError
from phi4r.sampling.generator import Completion
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder

ENGLISH = "The two numbers are added, and their sum is divided by three, as the question asks."
GERMAN = "Die beiden Zahlen werden addiert, und die Summe wird durch drei geteilt, wie die Frage es verlangt."


def screen(text, *, finish_reason="stop", num_tokens=9, **settings) -> Screened:
    return TraceScreens(ScreenSettings(**settings))(Completion(text, num_tokens, finish_reason))


def test_thought_and_solution_are_told_apart_and_lose_the_blanks_around_them():
    found = Screened("a\n b", "c  d", num_tokens=9)
    assert screen("<think>a\n b</think>c  d") == found
    assert screen("\n<think>\na\n b\n</think>\n\nc  d\n") == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("just a solution", "not one think block"),
        ("<think>a</think>b</think>c", "not one think block"),
        ("<think>a<think>b</think>c", "not one think block"),
        ("a</think>b", "not one think block"),
        ("Sure. <think>a</think>b", "not one think block"),
        ("<think>a", "not one think block"),
        ("<think> \n</think>b", "empty thought"),
        ("<think>a</think> \n", "empty solution"),
        ("", "not one think block"),
    ],
)
def test_a_response_of_another_form_is_no_trace(text, reason):
    assert screen(text).reason == reason


def test_a_thought_may_be_left_out_where_that_is_allowed_but_not_misused():
    assert screen("b", require_thought=False).reason == "" and screen("b", require_thought=False).solution == "b"
    assert screen("<think>a", require_thought=False).reason == "not one think block"
    assert screen("", require_thought=False).reason == "empty solution"


def test_what_was_cut_off_or_refused_is_no_trace():
    assert screen("<think>a</think>b", finish_reason="length").reason == "cut off"
    assert screen("", finish_reason="refused").reason == "refused by the server"


@pytest.mark.parametrize(("num_tokens", "reason"), [(9, "too short"), (10, ""), (20, ""), (21, "too long")])
def test_lengths_without_a_tokenizer_are_those_of_the_teacher(num_tokens, reason):
    assert screen("<think>a</think>b", num_tokens=num_tokens, min_tokens=10, max_tokens=20).reason == reason


def test_lengths_are_counted_by_our_tokenizer(tmp_path):
    import sentencepiece

    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), tmp_path)
    reference = sentencepiece.SentencePieceProcessor(model_file=str(QUICKSTART_MODEL))
    thought, solution = "We add 2 and 3.", "It is 5."
    expected = len(reference.encode(thought)), len(reference.encode(solution))
    found = screen(f"<think>{thought}</think>{solution}", tokenizer=str(tmp_path), num_tokens=999)
    assert (found.thought_tokens, found.solution_tokens) == expected and found.num_tokens == sum(expected)
    assert (
        screen(f"<think>{thought}</think>{solution}", tokenizer=str(tmp_path), max_tokens=sum(expected) - 1).reason
        == "too long"
    )


def test_thought_and_solution_must_be_in_the_language():
    pytest.importorskip("py3langid")
    assert screen(f"<think>{ENGLISH}</think>{ENGLISH}", language="en").reason == ""
    assert screen(f"<think>{GERMAN}</think>{ENGLISH}", language="en").reason == "another language"
    assert screen(f"<think>{ENGLISH}</think>{GERMAN}", language="en").reason == "another language"
    assert screen(f"<think>{GERMAN}</think>{GERMAN}", language="de").reason == ""
    assert screen(f"<think>{GERMAN}</think>{ENGLISH}").reason == ""


def test_formulas_and_code_are_in_every_language():
    pytest.importorskip("py3langid")
    formula = r"$$\sum_{k=1}^{n} k = \frac{n(n+1)}{2}$$ \boxed{\text{fuenfundfuenfzig}}"
    code = "```\nwenn = oder und nicht (der, die, das, ist, sind, wird)\n```"
    assert screen(f"<think>{ENGLISH} {code}</think>{formula}", language="en").reason == ""


@pytest.mark.parametrize("wrong", [{"min_tokens": 5, "max_tokens": 4}, {"language": "English"}, {"min_tokens": -1}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError):
        ScreenSettings(**wrong)
