import functools

import jax
import pytest

from phi4r.checkpoint.release import save_hf_folder
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import init_params
from phi4r.text.reasoning import write_reasoning_tokenizer
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder
from phi4r.tools import generate
from phi4r.tools.cli import main


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A Hugging Face folder of one random layer."""
    root = tmp_path_factory.mktemp("generate")
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), root / "tokenizer")
    write_reasoning_tokenizer(root / "tokenizer", root / "tokenizer", system_message=None)
    config = ModelConfig(
        vocab_size=512, num_layers=1, embed_dim=16, num_heads=2, num_kv_heads=1, head_dim=8, mlp_dim=16
    )
    params = jax.jit(functools.partial(init_params, config))(jax.random.key(0))
    save_hf_folder(root / "model", params, config=config, source_folder=root / "tokenizer")
    return str(root / "model")


def run(capsys, *argv) -> str:
    main(["generate", *argv])
    return capsys.readouterr().out


def test_every_sample_of_every_prompt_is_printed_with_its_length(model_folder, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("chain 7 +3 =\n\nchain 1 -2 *9 =\n")
    out = run(
        capsys, model_folder, f"--file={tmp_path / 'prompts.txt'}", "--num_samples=3", "--max_tokens=4", "--top_k=0"
    )
    lines = out.splitlines()
    assert [line for line in lines if line.startswith("> ")] == ["> chain 7 +3 =", "> chain 1 -2 *9 ="]
    assert sum(line in ("[4 tokens, length]", "[4 tokens, stop]") for line in lines) >= 5
    assert "\033" not in out  # no colours where nobody looks


def test_the_seed_repeats_an_answer(model_folder, capsys):
    first, same, other = (
        run(capsys, model_folder, "chain 7 +3 =", "--max_tokens=8", f"--seed={seed}") for seed in (1, 1, 2)
    )
    assert first == same != other


def test_thoughts_are_coloured_on_a_terminal():
    text = "<think> +3 0</think>\\boxed{0}"
    assert generate._render(text, colour=True) == "\033[2;36m<think> +3 0</think>\033[0m\\boxed{0}"
    assert generate._render(text, colour=False) == text
    assert generate._render("\\boxed{0}", colour=True) == "\\boxed{0}"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["{model}"], "give a prompt or --file, and not both"),
        (["{model}", "a", "--file=b"], "give a prompt or --file, and not both"),
        (["{model}", "--file={folder}/none.txt"], "cannot read"),
        (["{model}", "--file={folder}/empty.txt"], "has no prompts"),
        (["{model}", "--file={folder}/binary.txt"], "UTF-8"),
        (["{model}", "a", "--num_samples=0"], "num_samples"),
        (["{model}", "a", "--temperature=-1"], "temperature"),
        (["{model}", "a", "--top_p=0"], "top_p"),
        (["{model}", "a", "--prompt_length=3"], "prompt_length=3"),
        (["{folder}/nowhere", "a"], "config.json is missing"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(model_folder, tmp_path, capsys, argv, message):
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["generate", *(argument.format(model=model_folder, folder=tmp_path) for argument in argv)])
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("load ")]
    assert stopped.value.code == 2 and captured.out == ""
    assert len(lines) == 1 and lines[0].startswith("phi4r generate: ") and message in lines[0]
