import json

import numpy as np
import pytest

from phi4r.checkpoint.release import load_hf_folder, save_hf_folder
from phi4r.model.config import ModelConfig
from phi4r.tools.cli import main

CONFIG = ModelConfig(vocab_size=16, num_layers=1, embed_dim=8, num_heads=2, num_kv_heads=1, head_dim=4, mlp_dim=12)


@pytest.fixture
def source(tmp_path):
    import jax

    from phi4r.model.transformer import init_params

    save_hf_folder(tmp_path / "hf", init_params(CONFIG, jax.random.key(0)), config=CONFIG)
    return tmp_path / "hf"


def test_both_directions_give_back_the_folder(source, tmp_path, capsys):
    main(["convert", "hf-to-orbax", str(source), str(tmp_path / "orbax")])
    main(["convert", "orbax-to-hf", str(tmp_path / "orbax"), str(tmp_path / "back")])
    assert f"wrote {tmp_path / 'back'}" in capsys.readouterr().out
    for path in source.iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()


def test_dtype_is_passed_on(source, tmp_path):
    main(["convert", "hf-to-orbax", str(source), str(tmp_path / "orbax"), "--dtype=bfloat16"])
    main(["convert", "orbax-to-hf", str(tmp_path / "orbax"), str(tmp_path / "back")])
    config, params = load_hf_folder(tmp_path / "back")
    assert config.param_dtype == "bfloat16" and params["embedding"].dtype == "bfloat16"
    _, exact = load_hf_folder(source)
    np.testing.assert_array_equal(params["embedding"], exact["embedding"].astype("bfloat16"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hf-to-orbax", "{source}", "{source}"], "exists already"),
        (["hf-to-orbax", "{source}/nowhere", "{out}"], "config.json is missing"),
        (["hf-to-orbax", "{source}", "{out}", "--reasoning"], "tokenizer"),
        (["hf-to-orbax", "{source}", "{out}", "--system_message=x"], "--system_message"),
        (["orbax-to-hf", "{source}", "{out}"], "has no params folder"),
        (["orbax-to-hf", "{source}", "{out}", "--reasoning"], "leave them out"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(source, tmp_path, capsys, arguments, message):
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stopped:
        main(["convert", *(argument.format(source=source, out=out) for argument in arguments)])
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.startswith("phi4r convert: ") and error.count("\n") == 1 and message in error
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]
    json.loads((source / "config.json").read_text())
