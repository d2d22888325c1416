import argparse

import pytest

from phi4r.errors import UserError
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL
from phi4r.text.tokenizer import load_tokenizer
from phi4r.tools import tokenizer


def run(*arguments):
    parser = argparse.ArgumentParser()
    tokenizer.add_arguments(parser)
    tokenizer.run(parser.parse_args([str(argument) for argument in arguments]))


def test_train_writes_a_folder_from_text_files(tmp_path):
    corpus = QUICKSTART_MODEL.with_name("quickstart_corpus.txt")
    run("train", "--corpus", corpus, "--vocab_size", 480, tmp_path / "out")
    assert load_tokenizer(tmp_path / "out").vocab_size == 480


def test_train_names_a_corpus_that_it_cannot_read(tmp_path):
    with pytest.raises(UserError, match="cannot read the corpus"):
        run("train", "--corpus", tmp_path / "nothing.txt", "--vocab_size", 480, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_phi4_names_ranks_that_it_cannot_read(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        run("phi4", "--ranks", tmp_path / "nothing.tiktoken", tmp_path / "out")
