import json

import numpy as np
import pytest
import tokenizers

from phi4r.errors import UserError
from phi4r.text.tokenizer import load_tokenizer

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]


def test_white_space_around_a_stripping_token_is_swallowed_as_the_library_does(write_byte_tokenizer, tmp_path):
    write_byte_tokenizer(tmp_path, SPECIALS, lstrip=True, rstrip=True)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("a <|im_end|> b", " a\n<|im_end|>\n<|im_start|> b ", "<|im_end|>  ", "  a  "):
        expected = library.encode(text, add_special_tokens=False).ids
        assert load_tokenizer(tmp_path).encode(text, specials=True) == expected


def test_added_tokens_that_are_not_special_cannot_be_injected_either(write_byte_tokenizer, tmp_path):
    tokenizer = load_tokenizer(write_byte_tokenizer(tmp_path, SPECIALS, plain_tags=["<think>", "</think>"]))
    assert tokenizer.think_id == 260
    assert tokenizer.end_think_id == 261
    assert len(tokenizer.encode("<think>")) == len("<think>")
    ids = tokenizer.encode("<think>a</think><|im_end|>", specials=True)
    assert tokenizer.decode(ids, skip_specials=True) == "<think>a</think>"


def test_roles_come_from_the_files(write_byte_tokenizer, tmp_path):
    config = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    write_byte_tokenizer(tmp_path, ["<|endoftext|>", "<|end|>"], config=config)
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.eos_id, tokenizer.pad_id, tokenizer.bos_id) == (256, 256, None)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "<|end|>"}}))
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": [257, 256], "bos_token_id": 256}))
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.eos_id, tokenizer.pad_id, tokenizer.bos_id) == (257, 257, 256)


def test_early_files_of_phi4_end_a_turn_with_im_end_all_the_same(write_byte_tokenizer, tmp_path):
    config = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}
    tokenizer = load_tokenizer(write_byte_tokenizer(tmp_path, SPECIALS, config=config))
    assert (tokenizer.eos_id, tokenizer.pad_id, tokenizer.bos_id) == (258, 256, 256)


def test_files_that_name_no_end_of_turn_are_refused(write_byte_tokenizer, tmp_path):
    write_byte_tokenizer(tmp_path, ["<|end|>"], config={})
    with pytest.raises(UserError, match="set eos_token"):
        load_tokenizer(tmp_path)


def test_a_role_outside_the_vocabulary_is_refused(write_byte_tokenizer, tmp_path):
    write_byte_tokenizer(tmp_path, SPECIALS, config={"pad_token": "<|nothing|>"})
    with pytest.raises(UserError, match=r"no token '<.nothing.>'"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_truncated_file_is_named(write_byte_tokenizer, tmp_path, name):
    write_byte_tokenizer(tmp_path, SPECIALS)
    path = tmp_path / name
    path.write_text(path.read_text()[:-3])
    with pytest.raises(UserError, match=name):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("skip_specials", [False, True])
def test_bytes_are_joined_as_the_library_does(phi4_folder, skip_specials):
    tokenizer = load_tokenizer(phi4_folder)
    library = tokenizers.Tokenizer.from_file(str(phi4_folder / "tokenizer.json"))
    random = np.random.default_rng(0)
    for size in (0, 1, 2, 30, 500):  # random ids cut characters into pieces, which become U+FFFD
        ids = random.integers(0, tokenizer.vocab_size, size).tolist() + random.integers(100_256, 100_352, 3).tolist()
        expected = library.decode(ids, skip_special_tokens=skip_specials)
        assert tokenizer.decode(ids, skip_specials=skip_specials) == expected
        assert tokenizer.decode([*ids, tokenizer.vocab_size + 5], skip_specials=skip_specials) == expected


def test_added_tokens_with_letters_of_no_byte_are_written_as_they_are(write_byte_tokenizer, tmp_path):
    tags = ["<\u201cquote\u201d>", "<a b>", "<\u0100>"]  # U+0100 stands for the byte 0 among the letters
    tokenizer = load_tokenizer(write_byte_tokenizer(tmp_path, SPECIALS, plain_tags=tags))
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = [tokenizer.special_tokens[tag] for tag in tags]
    assert tokenizer.decode([65, *ids]) == library.decode([65, *ids], skip_special_tokens=False)


def test_a_vocabulary_that_is_not_byte_level_is_decoded_by_the_library(tmp_path):
    model = tokenizers.models.BPE(vocab={"\u2581a": 0, "\u2581b": 1, "<|im_end|>": 2}, merges=[])
    library = tokenizers.Tokenizer(model)
    library.decoder = tokenizers.decoders.Metaspace()
    library.add_special_tokens(["<|im_end|>"])
    library.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    assert load_tokenizer(tmp_path).decode([0, 1, 0]) == "a b a"
