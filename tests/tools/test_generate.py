import functools
import io
import json
import sys

import jax
import pytest

from phi4r.checkpoint.release import save_hf_folder
from phi4r.evals import answers
from phi4r.evals.answer_file import AnswerFile
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import init_params
from phi4r.text.reasoning import write_reasoning_tokenizer
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder
from phi4r.text.terminal import PLAIN, THOUGHT_COLOUR
from phi4r.tools.cli import main
from tests.evals.parrot import write_parrot


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


@pytest.fixture(scope="module")
def parrot(tmp_path_factory):
    """A folder of a model that thinks " so" and answers 3."""
    return str(write_parrot(tmp_path_factory.mktemp("parrot"), "<think> so</think>\\boxed{3}"))


@pytest.fixture
def problems(tmp_path):
    """A .jsonl file: five problems of which every second has the answer 3."""
    rows = [{"id": f"p{i}", "prompt": f"{i} +2 =", "answer": "3" if i % 2 else "\\frac{8}{2}"} for i in range(5)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "problems.jsonl"


class Terminal(io.StringIO):
    """Standard output that claims to be a terminal, and keeps what was written at a time."""

    def __init__(self):
        super().__init__()
        self.parts = []

    def write(self, text):
        self.parts += [text] if text else []
        return super().write(text)

    def isatty(self):
        return True


def run(capsys, *argv) -> str:
    main(["generate", *map(str, argv)])
    return capsys.readouterr().out


def rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_prompt_is_answered_with_thought_and_solution(parrot, capsys):
    out = run(capsys, parrot, "1 +2 =", "--max_tokens=32")
    assert out == "<think> so</think>\\boxed{3}\n[7 tokens, stop]\n"


def test_a_terminal_shows_the_answer_while_it_is_drawn_and_the_thought_in_colour(parrot, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(["generate", parrot, "1 +2 =", "--max_tokens=32"])
    bursts = [f"{THOUGHT_COLOUR}<think> so</think>{PLAIN}\\boxed{{", "3}"]  # of 4 tokens
    assert terminal.parts == [*bursts, "\n[7 tokens, stop]\n"]
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    main(["generate", parrot, "1 +2 =", "--max_tokens=32"])
    assert "\033" not in terminal.getvalue()


def test_every_sample_of_every_prompt_is_printed_with_its_length(model_folder, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("chain 7 +3 =\n\nchain 1 -2 *9 =\n")
    out = run(
        capsys, model_folder, f"--file={tmp_path / 'prompts.txt'}", "--num_samples=3", "--max_tokens=4", "--top_k=0"
    )
    lines = out.splitlines()
    assert [line for line in lines if line.startswith("> ")] == ["> chain 7 +3 =", "> chain 1 -2 *9 ="]
    notes = [f"[sample {i} of 3: 4 tokens, length]" for i in (1, 2, 3)]
    assert [line for line in lines if line.startswith("[sample")] == notes * 2
    assert "\033" not in out  # no colours where nobody looks


def test_the_seed_repeats_an_answer(model_folder, capsys):
    first, same, other = (
        run(capsys, model_folder, "chain 7 +3 =", "--max_tokens=8", f"--seed={seed}") for seed in (1, 1, 2)
    )
    assert first == same != other


def test_samples_vote_and_a_reference_judges_them(parrot, capsys):
    out = run(capsys, parrot, "1 +2 =", "--max_tokens=32", "--num_samples=3", "--reference=\\frac{6}{2}")
    assert out.splitlines()[-2:] == ["majority: 3 (3 of 3)", "best: sample 1, score 1 (3 of 3 right)"]
    out = run(capsys, parrot, "1 +2 =", "--max_tokens=32", "--reference=4", "--verifier=integer")
    assert out.splitlines()[-1] == "best: sample 1, score 0 (0 of 1 right)"


def test_a_stop_string_and_a_limit_of_the_thought_reach_the_sampler(parrot, capsys):
    out = run(capsys, parrot, "1 +2 =", "--max_tokens=32", "--stop=boxed", "--stop=}")
    assert out.splitlines()[0] == "<think> so</think>\\" and out.endswith(" tokens, stop]\n")
    # From a thought that is closed at once the parrot goes on as from any other.
    out = run(capsys, parrot, "1 +2 =", "--max_tokens=32", "--max_thought=0")
    assert out.splitlines()[0] == "</think>\\boxed{3}"


def test_the_output_has_a_row_for_every_prompt(parrot, problems, tmp_path, capsys):
    out = run(
        capsys, parrot, f"--file={problems}", f"--output={tmp_path / 'out.jsonl'}", "--num_samples=2", "--max_tokens=32"
    )
    assert out == ""
    written = rows(tmp_path / "out.jsonl")
    assert [(row["number"], row["id"], row["reference"]) for row in written[:2]] == [
        (0, "p0", "\\frac{8}{2}"),
        (1, "p1", "3"),
    ]
    assert [[sample["correct"] for sample in row["samples"]] for row in written] == [[i % 2 == 1] * 2 for i in range(5)]
    assert {(sample["text"], sample["answer"]) for row in written for sample in row["samples"]} == {
        ("<think> so</think>\\boxed{3}", "3")
    }
    assert all(row["majority"] == {"answer": "3", "sample": 0, "votes": 2, "tied": False} for row in written)
    assert all(row["best"] == 0 for row in written)


def test_an_interrupted_run_keeps_what_is_finished_and_ends_like_any_other(
    model_folder, problems, tmp_path, capsys, monkeypatch
):
    command = [model_folder, f"--file={problems}", "--num_samples=2", "--max_tokens=8", "--num_slots=4", "--top_k=0"]
    run(capsys, *command, f"--output={tmp_path / 'whole.jsonl'}")
    add = AnswerFile.add

    def interrupted(self, row):
        add(self, row)
        if len(rows(self.partial)) == 3:  # the settings and two prompts
            raise KeyboardInterrupt

    monkeypatch.setattr(AnswerFile, "add", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main(["generate", *command, f"--output={tmp_path / 'out.jsonl'}"])
    assert stopped.value.code == 130
    assert f"Kept in {tmp_path / 'out.jsonl.partial'}" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
    monkeypatch.setattr(AnswerFile, "add", add)

    monkeypatch.setattr(answers, "CALL_TOKENS", 1)  # and every prompt in a call of its own
    with pytest.raises(SystemExit):
        main(["generate", *command, f"--output={tmp_path / 'out.jsonl'}", "--seed=1"])
    assert "under other settings: seed was 0 and is now 1" in capsys.readouterr().err
    run(capsys, *command, f"--output={tmp_path / 'out.jsonl'}")
    assert rows(tmp_path / "out.jsonl") == rows(tmp_path / "whole.jsonl")
    assert not (tmp_path / "out.jsonl.partial").exists()


def test_a_reader_that_goes_away_ends_the_command_quietly(parrot, problems, tmp_path, monkeypatch, capsys):
    tried = []

    class Closed(io.StringIO):
        def write(self, text):
            tried.append(text)
            raise BrokenPipeError

        def fileno(self):
            return pipe.fileno()

    with (tmp_path / "pipe").open("w") as pipe:
        monkeypatch.setattr(sys, "stdout", Closed())
        main(["generate", parrot, f"--file={problems}", "--max_tokens=8"])
    assert len(tried) == 1  # it met with the closed pipe, and did not try again
    assert "phi4r generate:" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["{model}"], "give a prompt or --file, and not both"),
        (["{model}", "a", "--file=b"], "give a prompt or --file, and not both"),
        (["{model}", " "], "the prompt is empty"),
        (["{model}", "--file={folder}/none.txt"], "cannot read"),
        (["{model}", "--file={folder}/empty.txt"], "has no prompts"),
        (["{model}", "--file={folder}/binary.txt"], "UTF-8"),
        (["{model}", "--file={folder}/prompts.txt", "--reference=3"], "--reference belongs to one prompt"),
        (["{model}", "--file={folder}/prompts.txt", "--verifier=math"], "--verifier compares with a reference"),
        (["{model}", "--file={folder}/prompts.txt", "--output={folder}/prompts.txt"], "is there already"),
        (["{model}", "a", "--reference=3", "--verifier=nowhere:Verifier"], "--verifier=nowhere:Verifier cannot be"),
        (["{model}", "a", "--num_samples=0"], "num_samples"),
        (["{model}", "a", "--temperature=-1"], "temperature"),
        (["{model}", "a", "--top_p=0"], "top_p"),
        (["{model}", "a", "--min_p=1"], "min_p"),
        (["{model}", "a", "--stop="], "empty stop string"),
        (["{model}", "a", "--max_thought=-1"], "max_thought"),
        (["{plain}", "a", "--max_thought=5"], "has no </think> token"),
        (["{model}", "a", "--rope=yarn"], "needs rope.factor above 1"),
        (["{model}", "a", "--prompt_length=3"], "--prompt_length=3"),
        (["{model}", "a", "--cache_gib=0.00001"], "keys and values of one answer of full length take"),
        (["{folder}/nowhere", "a"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(model_folder, tmp_path, capsys, argv, message):
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "prompts.txt").write_text("a\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), tmp_path / "plain")
    with pytest.raises(SystemExit) as stopped:
        main(
            ["generate"]
            + [argument.format(model=model_folder, folder=tmp_path, plain=tmp_path / "plain") for argument in argv]
        )
    captured = capsys.readouterr()
    assert stopped.value.code == 2 and captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("phi4r generate: ") and message in line
