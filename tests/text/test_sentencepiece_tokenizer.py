import io

import pytest
import sentencepiece

from phi4r.errors import UserError
from phi4r.text.sentencepiece_training import write_sentencepiece_folder
from phi4r.text.tokenizer import load_tokenizer


def test_text_without_special_tokens_encodes_as_sentencepiece_does(small_folder):
    library = sentencepiece.SentencePieceProcessor(model_file=str(small_folder / "tokenizer.model"))
    tokenizer = load_tokenizer(small_folder)
    for text in ("7 +3 *9 -4 =", "  the answer \n is 42. ", "Grüße, 世界! 🙂", " x", ""):
        assert tokenizer.encode(text) == library.encode(text)


def test_transformers_reads_the_folder_and_gives_the_same_ids(small_reasoning_folder):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(small_reasoning_folder)
    ours = load_tokenizer(small_reasoning_folder)
    assert (theirs.eos_token_id, theirs.pad_token_id) == (ours.eos_id, ours.pad_id)
    for text in ("7 +3 =", "<|im_start|>user<|im_sep|>the é  \n<|im_end|>", "<think> +3 0</think>\\boxed{0}"):
        assert theirs.encode(text, add_special_tokens=False) == ours.encode(text, specials=True)


def test_unicode_outside_the_vocabulary_is_spelt_in_bytes(small_folder):
    tokenizer = load_tokenizer(small_folder)
    assert tokenizer.encode("é") == [tokenizer.token_id("<0xC3>"), tokenizer.token_id("<0xA9>")]
    assert tokenizer.encode("\u2581") == [tokenizer.token_id(f"<0x{b}>") for b in ("E2", "96", "81")]


def test_half_a_character_decodes_to_the_replacement_character(small_folder):
    tokenizer = load_tokenizer(small_folder)
    assert tokenizer.decode([*tokenizer.encode("a"), tokenizer.token_id("<0xC3>")]) == "a\ufffd"


def test_think_tags_stay_when_control_tokens_are_dropped(small_reasoning_folder):
    tokenizer = load_tokenizer(small_reasoning_folder)
    ids = tokenizer.encode("<think> 4</think>4<|im_end|>", specials=True)
    assert [ids[0], ids[2], ids[-1]] == [tokenizer.think_id, tokenizer.end_think_id, tokenizer.eos_id]
    assert tokenizer.decode(ids, skip_specials=True) == "<think> 4</think>4"


def test_a_model_that_rewrites_text_is_refused(tmp_path):
    model = io.BytesIO()
    texts = ["the quick brown fox jumps over the lazy dog"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=60, hard_vocab_limit=False, minloglevel=2
    )
    write_sentencepiece_folder(model.getvalue(), tmp_path)
    with pytest.raises(UserError, match="rewrites text"):
        load_tokenizer(tmp_path)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    write_sentencepiece_folder(b"not a model", tmp_path)
    with pytest.raises(UserError, match="not a SentencePiece model"):
        load_tokenizer(tmp_path)
