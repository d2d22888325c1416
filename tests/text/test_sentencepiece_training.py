import string

import pytest

from phi4r.errors import UserError
from phi4r.text.chat import load_chat
from phi4r.text.phi4 import ADDED_TOKENS
from phi4r.text.sentencepiece_tokenizer import read_model
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, train_sentencepiece, write_sentencepiece_folder
from phi4r.text.tokenizer import load_tokenizer

CORPUS = QUICKSTART_MODEL.with_name("quickstart_corpus.txt")


def pieces(tokenizer, text, **kwargs):
    return [tokenizer.decode([index]) for index in tokenizer.encode(text, **kwargs)]


def test_the_shipped_model_is_the_one_that_training_gives():
    texts = CORPUS.read_text().splitlines()
    model = train_sentencepiece(texts, vocab_size=544)
    assert model == train_sentencepiece(iter(texts), vocab_size=544)
    trained = type(read_model(QUICKSTART_MODEL)).FromString(model)
    assert list(trained.pieces) == list(read_model(QUICKSTART_MODEL).pieces)


def test_a_problem_takes_one_token_for_each_of_its_words(small_folder):
    tokenizer = load_tokenizer(small_folder)
    assert pieces(tokenizer, "chain 7 +3 *9 -4 =") == ["chain", " 7", " +3", " *9", " -4", " ="]
    for operation in ("+", "-", "*"):
        for digit in "23456789":
            assert pieces(tokenizer, f" {operation}{digit}") == [f" {operation}{digit}"]
    for digit in string.digits:
        assert pieces(tokenizer, f"{digit} {digit}") == [digit, f" {digit}"]
    assert pieces(tokenizer, " +1 -1") == [" +1", " -1"]


def test_a_response_takes_one_token_for_each_of_its_words(small_reasoning_folder):
    tokenizer = load_tokenizer(small_reasoning_folder)
    response = r"<think> +3 0 *9 0 -4 6</think>\boxed{6}"
    expected = ["<think>", " +3", " 0", " *9", " 0", " -4", " 6", "</think>", r"\boxed{", "6", "}"]
    assert pieces(tokenizer, response, specials=True) == expected


def test_the_shipped_model_knows_lower_case_words(small_folder):
    tokenizer = load_tokenizer(small_folder)
    assert all(len(tokenizer.encode(letter)) == 1 for letter in string.ascii_lowercase)
    assert pieces(tokenizer, " the value of one is") == [" the", " value", " of", " one", " is"]


def test_the_added_tokens_of_phi4_are_symbols_of_the_model(small_folder):
    tokenizer = load_tokenizer(small_folder)
    assert list(tokenizer.special_tokens) == list(ADDED_TOKENS)
    assert list(tokenizer.special_tokens.values()) == list(range(1, 97))
    names = [tokenizer.decode([i]) for i in (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)]
    assert names == ["<|endoftext|>", "<|im_end|>", "<|dummy_85|>"]


def test_a_prompt_of_the_trained_folder_needs_no_reasoning_turn(small_folder):
    ids = load_chat(small_folder).prompt_ids([{"role": "user", "content": "7 +3 ="}])
    assert load_tokenizer(small_folder).decode(ids) == (
        "<|im_start|>user<|im_sep|>7 +3 =<|im_end|><|im_start|>assistant<|im_sep|>"
    )


def test_no_piece_crosses_from_one_word_into_the_next(tmp_path):
    model = train_sentencepiece([r"12+34 ab_c \boxed{5}." for _ in range(50)], vocab_size=385)
    write_sentencepiece_folder(model, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    expected = ["1", "2", "+3", "4", " ab", "_", "c", " \\boxed{", "5", "}."]
    assert pieces(tokenizer, r"12+34 ab_c \boxed{5}.") == expected


@pytest.mark.parametrize(("texts", "vocab_size"), [([], 512), (["ab"], 512), (["the quick brown fox"], 355)])
def test_a_corpus_that_does_not_fit_the_vocabulary_is_refused(texts, vocab_size):
    with pytest.raises(UserError, match="cannot train a vocabulary"):
        train_sentencepiece(texts, vocab_size=vocab_size)
