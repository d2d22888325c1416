import json
import random
import time
from pathlib import Path

import pytest

from phi4r.errors import UserError
from phi4r.text.chat import load_chat
from phi4r.text.phi4 import ADDED_TOKENS, write_phi4_tokenizer
from phi4r.text.tokenizer import load_tokenizer

# RECIPE section 2, by hand.
TABLE = {
    "<|dummy_0|>": 100256,
    "<|endoftext|>": 100257,
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    **{f"<|dummy_{i}|>": 100260 + i for i in range(1, 4)},
    "<|im_start|>": 100264,
    "<|im_end|>": 100265,
    "<|im_sep|>": 100266,
    **{f"<|dummy_{i}|>": 100263 + i for i in range(4, 13)},
    "<|endofprompt|>": 100276,
    **{f"<|dummy_{i}|>": 100264 + i for i in range(13, 88)},
}


@pytest.fixture(scope="module")
def reference(ranks_folder):
    """Phi-4's encoding in tiktoken, with tiktoken's own pattern and ranks."""
    tiktoken = pytest.importorskip("tiktoken")
    from tiktoken_ext import openai_public

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(ranks_folder))
        cl100k = openai_public.cl100k_base()
    return tiktoken.Encoding(**{**cl100k, "name": "phi-4", "special_tokens": TABLE})


def strings(count: int) -> list[str]:
    """Returns strings of unicode, code, white-space runs and special tokens, always the same ones."""
    chance = random.Random(0)
    code = Path(random.__file__).read_text() + Path(__file__).read_text()
    blocks = [(0x20, 0x7F), (0x80, 0x250), (0x370, 0x530), (0x590, 0x700), (0x900, 0xA00), (0xE00, 0xE80)]
    blocks += [(0x2000, 0x2070), (0x2190, 0x2300), (0x3000, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3)]
    blocks += [(0x1F300, 0x1FAFF), (0xE000, 0xE010), (0xFF00, 0xFFEF), (0x10000, 0x110000), (0x300, 0x370)]
    odd = [
        "'S",
        "'\u017f",
        "'ll",
        "'VE",
        "\x85",
        "\u2028",
        "\u00a0",
        "\u3000",
        "\ufeff",
        "\x00",
        "İ",
        "123456",
        "½",
        "x²",
    ]

    def piece() -> str:
        kind = chance.randrange(5)
        if kind == 0:
            block = chance.choice(blocks)
            return "".join(chr(chance.randrange(*block)) for _ in range(chance.randint(1, 8)))
        if kind == 1:
            start = chance.randrange(len(code) - 40)
            return code[start : start + chance.randint(1, 40)]
        if kind == 2:
            return "".join(chance.choices(" \t\n\r", weights=[6, 1, 2, 1], k=chance.randint(1, 12)))
        if kind == 3:
            return chance.choice(list(TABLE))
        return chance.choice(odd) + chance.choice(["", "a", " "])

    return ["".join(piece() for _ in range(chance.randint(1, 10))) for _ in range(count)]


def test_the_added_tokens_stand_where_the_table_says():
    assert {token: 100256 + i for i, token in enumerate(ADDED_TOKENS)} == TABLE


def test_encodings_equal_tiktokens_on_ten_thousand_strings(phi4_folder, reference):
    tokenizer = load_tokenizer(phi4_folder)
    for text in strings(10_000):
        assert tokenizer.encode(text, specials=True) == reference.encode(text, allowed_special="all"), text
        assert tokenizer.encode(text) == reference.encode(text, disallowed_special=()), text


def test_the_golden_ids(phi4_folder):
    tokenizer = load_tokenizer(phi4_folder)
    text = "<|im_start|>Hello<|im_sep|> World<|im_end|><|dummy_85|>"
    assert tokenizer.encode(text, specials=True) == [100264, 9906, 100266, 4435, 100265, 100349]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (100257, 100265, 100349)
    assert tokenizer.special_tokens == TABLE


def test_transformers_reads_the_folder_and_gives_the_same_ids(phi4_folder):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(phi4_folder)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2+2?\n"}]
    chat = load_chat(phi4_folder)
    text = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == chat.prompt_text(messages)
    assert theirs.encode(text, add_special_tokens=False) == chat.prompt_ids(messages)
    assert (theirs.eos_token_id, theirs.pad_token_id, theirs.bos_token_id) == (100265, 100349, 100257)


def test_loading_and_encoding_are_fast(phi4_folder):
    started = time.perf_counter()
    tokenizer = load_tokenizer(phi4_folder)
    loaded = time.perf_counter()
    tokenizer.encode("The quick brown fox jumps over the lazy dog. " * 4_000)  # 180 kB
    assert loaded - started < 3.0  # measured: 0.25 s
    assert time.perf_counter() - loaded < 3.0  # measured: 0.1 s


@pytest.mark.parametrize(
    ("content", "message"),
    [("IQ== zero\n", "base64 rank"), ("I!Q== 0\n", "base64 rank"), ("IQ== 0\nIg== 1\n", "it has 2 tokens")],
)
def test_a_file_that_is_not_the_ranks_is_refused(tmp_path, content, message):
    (tmp_path / "ranks").write_text(content)
    with pytest.raises(UserError, match=message):
        write_phi4_tokenizer(tmp_path / "ranks", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_file_of_ranks_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        write_phi4_tokenizer(tmp_path / "ranks", tmp_path / "out")


def test_merges_that_no_bpe_makes_are_refused(ranks_file, tmp_path):
    lines = ranks_file.read_text().splitlines()
    # Token 100255 becomes one whose bytes no two tokens before it spell.
    lines[-1] = "AAEC/wMEBQb+BwgJCgsMDQ== 100255"
    (tmp_path / "ranks").write_text("\n".join(lines))
    with pytest.raises(UserError, match="not those of a BPE"):
        write_phi4_tokenizer(tmp_path / "ranks", tmp_path / "out")


def test_the_folder_says_that_every_added_token_is_special(phi4_folder):
    config = json.loads((phi4_folder / "tokenizer_config.json").read_text())
    added = {int(index): token for index, token in config["added_tokens_decoder"].items()}
    assert {token["content"]: index for index, token in added.items()} == TABLE
    assert all(token["special"] for token in added.values())
