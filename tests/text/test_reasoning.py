import hashlib
import json

import pytest

from phi4r.errors import UserError
from phi4r.text.chat import load_chat
from phi4r.text.files import read_tokenizer_files, write_files
from phi4r.text.reasoning import REASONING_SYSTEM_MESSAGE, write_reasoning_tokenizer
from phi4r.text.tokenizer import load_tokenizer

PLACEHOLDERS = ["<|im_start|>", "<|im_sep|>", "<|im_end|>", "<|dummy_86|>", "<|dummy_87|>"]
TAGGED = "<think>Hello</think> World"


def test_the_system_message_is_the_released_one():
    assert len(REASONING_SYSTEM_MESSAGE) == 1232
    assert REASONING_SYSTEM_MESSAGE.isascii()
    assert REASONING_SYSTEM_MESSAGE.startswith("You are Phi, a language model trained by Microsoft to help users. Your")
    assert "the specified format: <think> {Thought section} </think> {Solution section}. In" in REASONING_SYSTEM_MESSAGE
    assert REASONING_SYSTEM_MESSAGE.endswith("the following question through the above guidelines:")


def test_the_think_tags_take_the_ids_of_the_placeholders(phi4_folder, tmp_path):
    write_reasoning_tokenizer(phi4_folder, tmp_path)
    before, after = load_tokenizer(phi4_folder), load_tokenizer(tmp_path)
    assert (after.think_id, after.end_think_id) == (100350, 100351)
    assert after.encode(TAGGED, specials=True) == [100350, 9906, 100351, 4435]
    assert after.vocab_size == before.vocab_size
    assert (after.eos_id, after.bos_id, after.pad_id) == (before.eos_id, before.bos_id, before.pad_id)
    renamed = {"<|dummy_86|>": "<think>", "<|dummy_87|>": "</think>"}
    assert after.special_tokens == {renamed.get(t, t): i for t, i in before.special_tokens.items()}
    text = "no <|dummy_86|> here\n  x = 1"
    assert after.encode(text, specials=True) == after.encode(text) == before.encode(text)


def test_transformers_reads_the_tags(phi4_folder, tmp_path):
    transformers = pytest.importorskip("transformers")
    write_reasoning_tokenizer(phi4_folder, tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = theirs.encode(TAGGED, add_special_tokens=False)
    assert ids == [100350, 9906, 100351, 4435]
    assert theirs.decode([*ids, 100265], skip_special_tokens=True) == TAGGED
    messages = [{"role": "system", "content": "dropped"}, {"role": "user", "content": "Hi"}]
    text = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == load_chat(tmp_path).prompt_text(messages)


def test_a_sentencepiece_model_is_converted_likewise(small_folder, small_reasoning_folder):
    before, after = load_tokenizer(small_folder), load_tokenizer(small_reasoning_folder)
    assert after.think_id == before.token_id("<|dummy_86|>")
    assert after.end_think_id == before.token_id("<|dummy_87|>")
    assert "<|dummy_86|>" not in after.special_tokens
    text = "the value is +3 <|dummy_86|>"
    assert after.encode(text) == before.encode(text)


@pytest.mark.parametrize("system_message", ["Think first.", "", None])
def test_another_system_message_can_be_fixed_or_none(small_folder, tmp_path, system_message):
    write_reasoning_tokenizer(small_folder, tmp_path, system_message=system_message)
    assert load_chat(tmp_path).system_message == system_message


def test_every_file_that_names_a_placeholder_follows(write_byte_tokenizer, tmp_path):
    src, dst = tmp_path / "src", tmp_path / "dst"
    src.mkdir()
    added = {"259": {"content": "<|dummy_86|>", "special": True, "lstrip": True, "rstrip": True, "normalized": False}}
    config = {
        "added_tokens_decoder": added,
        "additional_special_tokens": ["<|im_end|>", "<|dummy_86|>"],
        "chat_template": "the old one",
    }
    write_byte_tokenizer(src, PLACEHOLDERS, config=config)
    (src / "added_tokens.json").write_text(json.dumps({"<|dummy_86|>": 259, "<|dummy_87|>": 260}))
    (src / "merges.txt").write_text("a b\n")
    (src / "weights.bin").write_text("not ours")
    write_reasoning_tokenizer(src, dst)
    config = json.loads((dst / "tokenizer_config.json").read_text())
    assert config["added_tokens_decoder"]["259"] == {
        "content": "<think>",
        "special": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
    }
    assert config["additional_special_tokens"] == ["<|im_end|>"]
    assert "chat_template" not in config
    assert json.loads((dst / "added_tokens.json").read_text()) == {"<think>": 259, "</think>": 260}
    assert (dst / "merges.txt").read_text() == "a b\n"
    assert not (dst / "weights.bin").exists()


def test_a_folder_can_be_converted_in_place_but_not_twice(small_folder, tmp_path):
    write_files(tmp_path, read_tokenizer_files(small_folder))
    write_reasoning_tokenizer(tmp_path, tmp_path)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="already; convert it without --reasoning"):
        write_reasoning_tokenizer(tmp_path, tmp_path)
    assert files == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("missing", ["<|dummy_86|>", "<|dummy_87|>"])
def test_a_tokenizer_without_placeholders_is_refused(write_byte_tokenizer, tmp_path, missing):
    write_byte_tokenizer(tmp_path, [token for token in PLACEHOLDERS if token != missing])
    with pytest.raises(UserError, match=r"no placeholder token <.dummy_8"):
        write_reasoning_tokenizer(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_think_tags_in_a_tokenizer_json_are_reported(write_byte_tokenizer, tmp_path):
    write_byte_tokenizer(tmp_path, PLACEHOLDERS, plain_tags=["<think>", "</think>"])
    with pytest.raises(UserError, match="already"):
        write_reasoning_tokenizer(tmp_path, tmp_path / "out")
