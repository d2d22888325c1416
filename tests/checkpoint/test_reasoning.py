import json
import shutil

import pytest

from phi4r.checkpoint import convert
from phi4r.checkpoint.reasoning import reasoning_config
from phi4r.errors import UserError
from phi4r.text.reasoning import REASONING_SYSTEM_MESSAGE
from phi4r.text.tokenizer import load_tokenizer

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|dummy_85|>", "<|dummy_86|>", "<|dummy_87|>")


def write_tokenizer(folder, specials=SPECIALS):
    """A word-level tokenizer with the added tokens of phi-4."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(specials))
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|dummy_85|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.fixture
def base(hf_folder, tmp_path):
    """A folder like that of phi-4: the placeholder tokens are unused, theta is 250k, the context 16k."""
    source = tmp_path / "phi-4"
    shutil.copytree(hf_folder(), source)
    values = json.loads((source / "config.json").read_text())
    values |= {"max_position_embeddings": 16384, "original_max_position_embeddings": 16384}
    (source / "config.json").write_text(json.dumps(values))
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 4], "pad_token_id": 6}))
    (source / "chat_template.json").write_text('{"chat_template": "old"}')
    write_tokenizer(source)
    return source


def test_reasoning_makes_the_think_tokens_and_the_long_context(base, tmp_path):
    convert.hf_to_orbax(base, tmp_path / "orbax", reasoning=True)
    convert.orbax_to_hf(tmp_path / "orbax", tmp_path / "hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["rope_parameters"]["rope_theta"] == 500_000
    assert (config["max_position_embeddings"], config["original_max_position_embeddings"]) == (32768, 32768)
    before, after = load_tokenizer(base), load_tokenizer(tmp_path / "hf")
    assert after.think_id == before.token_id("<|dummy_86|>")
    assert after.end_think_id == before.token_id("<|dummy_87|>")
    assert REASONING_SYSTEM_MESSAGE in (tmp_path / "hf" / "chat_template.jinja").read_text()
    assert not (tmp_path / "hf" / "chat_template.json").exists()
    assert json.loads((tmp_path / "hf" / "generation_config.json").read_text()) == {
        "eos_token_id": [5, 4],
        "pad_token_id": 6,
        "do_sample": True,
        "temperature": 0.8,
        "top_p": 0.95,
        "top_k": 50,
    }


def test_the_system_message_can_be_another_or_none(base, tmp_path):
    convert.hf_to_orbax(base, tmp_path / "short", reasoning=True, system_message="Think first.")
    assert "Think first." in (tmp_path / "short" / "chat_template.jinja").read_text()
    convert.hf_to_orbax(base, tmp_path / "none", reasoning=True, system_message=None)
    assert "You are Phi" not in (tmp_path / "none" / "chat_template.jinja").read_text()


def test_dtype_and_reasoning_go_together(base, tmp_path):
    convert.hf_to_orbax(base, tmp_path / "orbax", reasoning=True, dtype="float32")
    config = json.loads((tmp_path / "orbax" / "config.json").read_text())
    assert (config["dtype"], config["rope_parameters"]["rope_theta"]) == ("float32", 500_000)


def test_the_old_spelling_of_theta_is_doubled_too():
    old = {"rope_theta": 250000.0, "max_position_embeddings": 16384, "rope_scaling": None}
    assert reasoning_config(old) == {"rope_theta": 500000.0, "max_position_embeddings": 32768, "rope_scaling": None}


@pytest.mark.parametrize(
    "longrope",
    [
        {"rope_theta": 1e4, "rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}},
        {"rope_parameters": {"rope_theta": 1e4, "long_factor": [1.0], "short_factor": [1.0]}},
    ],
)
def test_a_longrope_model_is_refused(longrope):
    with pytest.raises(UserError, match="extended by longrope"):
        reasoning_config({"max_position_embeddings": 131072, **longrope})


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_a_model_whose_frequencies_are_scaled_is_refused(kind):
    with pytest.raises(UserError, match=f"extended by {kind}"):
        reasoning_config({"max_position_embeddings": 131072, "rope_theta": 1e4, "rope_scaling": {"rope_type": kind}})


def test_a_config_without_theta_is_refused():
    with pytest.raises(UserError, match="no rope_theta"):
        reasoning_config({"max_position_embeddings": 16384})


def test_a_tokenizer_without_placeholders_is_refused_and_leaves_nothing(base, tmp_path):
    write_tokenizer(base, SPECIALS[:-2])
    with pytest.raises(UserError, match="has no placeholder token"):
        convert.hf_to_orbax(base, tmp_path / "orbax", reasoning=True)
    assert [path.name for path in tmp_path.iterdir()] == ["phi-4"]
