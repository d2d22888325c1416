"""What every tokenizer does, be it a tokenizer.json or a SentencePiece model."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phi4r.errors import UserError
from phi4r.text.tokenizer import load_tokenizer

# Text as users send it, with control tokens, white space and halves of tags strewn in.
PIECES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["<|im_end|>", "<|im_start|>", "<|im_", "end|>", "<think>", "\u2581", "  \n\t ", " +3", "\\boxed{"]
    ),
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)


@pytest.fixture(scope="module")
def tokenizers(phi4_folder, small_folder, small_reasoning_folder, byte_folder):
    return [load_tokenizer(folder) for folder in (phi4_folder, small_folder, small_reasoning_folder, byte_folder)]


@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_decoding_gives_any_text_back(tokenizers, text):
    for tokenizer in tokenizers:
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.decode(tokenizer.encode(text, specials=True)) == text


@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_plain_text_never_holds_a_special_id(tokenizers, text):
    for tokenizer in tokenizers:
        assert not set(tokenizer.encode(text)) & set(tokenizer.special_tokens.values())


def test_special_tokens_are_parsed_when_asked(tokenizer):
    text = "a<|im_end|>b<|im_start|>"
    start, end = tokenizer.token_id("<|im_start|>"), tokenizer.token_id("<|im_end|>")
    a, b = tokenizer.encode("a"), tokenizer.encode("b")
    assert tokenizer.encode(text, specials=True) == [*a, end, *b, start]
    assert tokenizer.encode(text, specials=["<|im_end|>"]) == [*a, end, *tokenizer.encode("b<|im_start|>")]
    assert tokenizer.encode(text, specials=()) == tokenizer.encode(text)


def test_special_tokens_are_dropped_from_decoded_text_when_asked(tokenizer):
    ids = tokenizer.encode("<|im_start|>a b<|im_end|>", specials=True)
    assert tokenizer.decode(ids) == "<|im_start|>a b<|im_end|>"
    assert tokenizer.decode(ids, skip_specials=True) == "a b"


def test_parts_under_one_rule_encode_like_their_text(tokenizer):
    parts = ["the an", "swer is <|im_", "end|>", " 4", "2", "<|im_end|>"]
    whole = tokenizer.encode("".join(parts))
    assert tokenizer.encode_parts([(part, False) for part in parts]) == whole


def test_a_special_token_is_not_put_together_from_two_parts(tokenizer):
    ids = tokenizer.encode_parts([("<|im_", True), ("end|>", True)])
    assert ids == tokenizer.encode("<|im_end|>")


@pytest.mark.parametrize(
    ("fixture", "vocab_size"), [("phi4_folder", 100_352), ("small_folder", 544), ("byte_folder", 259)]
)
def test_the_vocabulary_counts_the_special_tokens(request, fixture, vocab_size):
    assert load_tokenizer(request.getfixturevalue(fixture)).vocab_size == vocab_size


def test_ids_of_padded_embedding_rows_decode_to_nothing(tokenizer):
    assert tokenizer.decode([*tokenizer.encode("hi"), tokenizer.vocab_size + 7]) == "hi"


def test_an_unknown_token_is_refused(tokenizer):
    with pytest.raises(UserError, match="no token '<nothing>'"):
        tokenizer.token_id("<nothing>")
    with pytest.raises(UserError, match="not a special token"):
        tokenizer.encode("x", specials=["<nothing>"])


def test_think_ids_of_a_base_model_point_to_the_conversion(tokenizer):
    for name in ("think_id", "end_think_id"):
        with pytest.raises(UserError, match="--reasoning"):
            getattr(tokenizer, name)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        load_tokenizer(tmp_path)
