import collections
import dataclasses
import json

import jax
import pytest

from phi4r.checkpoint.release import save_hf_folder
from phi4r.curation.item import Item
from phi4r.curation.mixing.mixture import ClusterWeight, MixtureSettings
from phi4r.curation.mixing.output import write_output
from phi4r.curation.mixing.survey import OutputSettings
from phi4r.curation.overlap.held_out import HELD_OUT, side_of
from phi4r.data.pipeline import DataSettings, SourceSettings, TrainData
from phi4r.data.records import Problem, Trace
from phi4r.data.sources import open_source
from phi4r.errors import UserError
from phi4r.evals.specs import load_task
from phi4r.metrics.writer import read_metrics
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import init_params
from phi4r.settings import build
from phi4r.text.chat import load_chat
from phi4r.text.reasoning import write_reasoning_tokenizer
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder
from phi4r.text.tokenizer import load_tokenizer
from phi4r.train.optim import OptimizerSettings
from phi4r.train.setup import ModelOverrides
from phi4r.train.sft import SftSettings, run_sft

pytest.importorskip("array_record", reason="data sets are ArrayRecord files")

WEIGHTS = MixtureSettings((ClusterWeight("math/*", 2.0), ClusterWeight("code/*", 0.0), ClusterWeight("puzzles/*", 0.5)))


def item(name, cluster, *, answer="1", solution="so 1", held_out=False, **fields):
    domain = cluster.partition("/")[0]
    meta = {"clusters": {"domain": domain, "cluster": cluster}, "note": "é\u2028"}
    meta |= {"held_out": {"side": "held_out"}} if held_out else {"held_out": {"verdict": "clean", "ratio": 0.0}}
    texts = {"prompt": f"{name} ?", "thought": "t t", "source": "s", "licence": "MIT", "domain": domain, **fields}
    return Item(name, answer=answer, solution=solution, meta=meta, **texts)


def items(*, held_out_every=41):
    """30 of math, 10 of code, 40 puzzles, 6 of safety without answers, 5 problems without traces; not in order."""
    made = []
    for number in range(40):
        held = {"held_out": number % held_out_every == held_out_every - 1}
        made += [item(f"m{number}", "math/a/high", **held)] * (number < 30)
        made += [item(f"p{number}", "puzzles/maze/unrated", **held)]
        made += [item(f"c{number}", "code/a/high", **held)] * (number < 10)
        made += [item(f"s{number}", "safety", answer="", **held)] * (number < 6)
        made += [item(f"r{number}", "math/b/low", solution="", **held)] * (number < 5)
    return made


def split_items():
    """The same, every fifth number held out: 6 of math, 2 of code, 8 puzzles, 1 of safety, 1 problem."""
    return items(held_out_every=5)


def write(folder, *, rows=None, mixture=WEIGHTS, **settings):
    rows = items() if rows is None else rows
    return write_output(lambda: iter(rows), folder, output=OutputSettings(**settings), mixture=mixture)


def rows_of(spec):
    source = open_source(spec)
    return [source[index] for index in range(len(source))]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return folder, write(folder, rows=split_items(), name="mine")


def held_out(items_):
    return {item.id for item in items_ if side_of(item) == HELD_OUT}


def test_every_trace_is_in_its_split_and_reads_back_whole(written):
    folder, _ = written
    traces = {item.id: item.trace() for item in split_items() if item.solution}
    test = [Trace.from_dict(row) for row in rows_of(f"tfds:mine_sft/held_out@{folder}")]
    train = [Trace.from_dict(row) for row in rows_of(f"tfds:mine_sft/train@{folder}")]
    assert all(trace == traces[trace.id] for trace in test + train)
    assert {trace.id for trace in test} == held_out(item for item in split_items() if item.solution)
    names, out = (collections.Counter(trace.id[0] for trace in side) for side in (train, test))
    assert names["m"] == 24 and names["s"] == 5 and names["c"] == 0
    assert out == {"m": 6, "c": 2, "p": 8, "s": 1}
    assert len({trace.id for trace in train}) == len(train)


def test_the_sources_are_the_clusters_with_their_items_in_a_pass_as_weights(written):
    folder, output = written
    sources = json.loads((folder / "sources.json").read_text())
    assert sources == [dict(source) for source in output.sources]
    clusters = [{row["meta"]["clusters"]["cluster"] for row in rows_of(source["spec"])} for source in sources]
    assert clusters == [{"math/a/high"}, {"puzzles/maze/unrated"}, {"safety"}]
    sizes = [len(open_source(source["spec"])) for source in sources]
    assert sum(sizes) == len(open_source(f"tfds:mine_sft/train@{folder}"))
    assert [source["weight"] for source in sources] == [2.0 * sizes[0], sizes[1], sizes[2]]
    chosen = {item.id for item in split_items() if item.id[0] == "p" and WEIGHTS.times(item)}
    assert {row["id"] for row in rows_of(sources[1]["spec"])} == chosen - held_out(split_items())
    assert 0 < len(chosen) < 40


def test_problems_are_those_with_answers_but_of_safety(written):
    folder, _ = written
    problems = {item.id: item.problem() for item in split_items() if item.answer}
    rows = {split: rows_of(f"tfds:mine_rl/{split}@{folder}") for split in ("train", "held_out")}
    read = [Problem.from_dict(row) for split in rows.values() for row in split]
    assert {problem.id for problem in read} == set(problems) and all(problems[p.id] == p for p in read)
    assert {row["id"] for row in rows["held_out"]} == held_out(item for item in split_items() if item.answer)


def test_problems_may_be_those_of_some_sources_alone(tmp_path):
    rows = [item("t", "math/a/high", source="sft"), item("q", "math/b/high", source="rl", solution="")]
    rows += [item("n", "math/c/high", source="other", solution="")]  # neither a trace nor of a source of problems
    output = write(tmp_path, rows=rows, mixture=MixtureSettings(), problem_sources=("rl",))
    assert [row["id"] for row in rows_of(f"tfds:curated_sft/train@{tmp_path}")] == ["t"]
    assert [row["id"] for row in rows_of(f"tfds:curated_rl/train@{tmp_path}")] == ["q"]
    assert write(tmp_path / "none", rows=rows, mixture=MixtureSettings(), problem_sources=()).rl is None
    assert output.neither == 1 and {source for (source, _), number in output.origins.items() if number} == {"sft", "rl"}


def test_grpo_takes_the_problems_as_a_task(written):
    folder, output = written
    task = load_task(f"jsonl:{folder}/mine_rl_train.jsonl")
    assert [problem.to_dict() for problem in task.problems] == rows_of(f"tfds:mine_rl/train@{folder}")
    assert task.verifier("<think></think>so \\boxed{1}", task.problems[0].answer).correct
    assert output.rl.splits["train"].num_rows == len(task.problems)


def test_lengths_are_words_without_a_tokenizer(written):
    _, output = written
    assert output.unit == "words" and output.packing is None
    count = output.counts["math/a/high"]
    assert count.tokens == 6 * count.items  # "m0 ?", "t t" and "so 1"
    assert count.drawn_tokens == 2 * count.tokens
    assert list(output.counts) == ["code/a/high", "math/a/high", "puzzles/maze/unrated", "safety"]
    assert output.counts["code/a/high"].kept == 0


def test_the_digest_depends_on_the_rows_and_not_on_their_order(written, tmp_path):
    _, output = written
    backwards = write(tmp_path / "a", rows=split_items()[::-1], name="mine")
    assert backwards.sft.splits["train"].digest == output.sft.splits["train"].digest
    assert [source["weight"] for source in backwards.sources] == [source["weight"] for source in output.sources]
    changed = [dataclasses.replace(row, thought="other") if row.id[0] == "m" else row for row in split_items()]
    assert write(tmp_path / "b", rows=changed, name="mine").sft.splits["train"].digest != (
        output.sft.splits["train"].digest
    )


def test_all_traces_of_a_prompt_are_on_one_side_and_it_is_one_problem(tmp_path):
    rows = [item(f"{i}-{k}", "math/a/high", prompt=f"Prompt {i}", held_out=i < 10) for i in range(40) for k in range(3)]
    output = write(tmp_path, rows=rows, mixture=MixtureSettings())
    sides = {split: rows_of(f"tfds:curated_sft/{split}@{tmp_path}") for split in ("train", "held_out")}
    prompts = {split: {row["prompt"] for row in side} for split, side in sides.items()}
    assert not prompts["train"] & prompts["held_out"]
    assert {split: len(side) for split, side in prompts.items()} == {"train": 30, "held_out": 10}
    assert {split: len(side) for split, side in sides.items()} == {"train": 90, "held_out": 30}
    assert {split: written.num_rows for split, written in output.rl.splits.items()} == {"train": 30, "held_out": 10}


def test_a_second_writing_replaces_the_first_and_a_failed_one_leaves_it(tmp_path):
    write(tmp_path)
    write(tmp_path, rows=items()[:7], mixture=MixtureSettings())
    before = rows_of(f"tfds:curated_sft/train@{tmp_path}")
    assert len(before) == sum(bool(item.solution) for item in items()[:7])
    passes = iter([items(), [*items()[:3], Item("bad", "p", solution="s")]])
    with pytest.raises(UserError, match="item bad has no cluster"):
        write_output(lambda: iter(next(passes)), tmp_path, output=OutputSettings(), mixture=WEIGHTS)
    assert rows_of(f"tfds:curated_sft/train@{tmp_path}") == before
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


def test_shards_are_cut_at_their_size_and_slices_go_across_them(tmp_path):
    rows = [item(f"{kind}{i}", f"{kind}/a/high", thought="t" * (1 << 18)) for i in range(9) for kind in "ab"]
    output = write(tmp_path, rows=rows, mixture=MixtureSettings(), shard_mib=1)
    shards = sorted(path.name for path in output.sft.folder.glob("*.array_record-*"))
    assert shards == [f"curated_sft-train.array_record-{i:05d}-of-00006" for i in range(6)]  # 4 + 4 + 1, twice
    assert [{row["id"][0] for row in rows_of(source["spec"])} for source in output.sources] == [{"a"}, {"b"}]
    assert [len(open_source(source["spec"])) for source in output.sources] == [9, 9]


def test_only_what_there_is_is_written(tmp_path):
    problems = write(tmp_path / "a", rows=[item("r", "math/a/high", solution="")], mixture=MixtureSettings())
    assert problems.sft is None and problems.sources == () and problems.rl is not None
    traces = write(tmp_path / "b", rows=[item("s", "safety", answer="")], mixture=MixtureSettings())
    assert traces.rl is None and len(traces.sources) == 1
    neither = Item("n", "p")
    assert write(tmp_path / "c", rows=[neither, items()[0]], mixture=MixtureSettings()).neither == 1


@pytest.mark.parametrize(
    ("rows", "mixture", "message"),
    [
        ([Item("n", "p")], MixtureSettings(), "no items that have a solution or an answer"),
        ([Item("n", "p", solution="s")], MixtureSettings(), "item n has no cluster"),
        ([item("a", "math/a/b")], MixtureSettings((ClusterWeight("*", 0.0),)), "leave out every cluster"),
        ([item("a", "math/a/b")], MixtureSettings((ClusterWeight("code/*", 1.0),)), "decides about no cluster"),
    ],
)
def test_what_cannot_be_written_is_refused(rows, mixture, message, tmp_path):
    with pytest.raises(UserError, match=message):
        write(tmp_path / "new", rows=rows, mixture=mixture)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "My-Traces"}, "snake case"),
        ({"version": "1.0"}, "three numbers"),
        ({"row_length": 0}, "row_length=0 must be at least 1"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        OutputSettings(**settings)


# With a model


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A Hugging Face folder: a model of random weights with a tokenizer."""
    root = tmp_path_factory.mktemp("base")
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), root / "plain")
    write_reasoning_tokenizer(root / "plain", root / "tokenizer", system_message=None)
    sizes = {"num_layers": 1, "embed_dim": 16, "num_heads": 2, "num_kv_heads": 1, "head_dim": 8, "mlp_dim": 16}
    config = ModelConfig(vocab_size=-(-load_tokenizer(root / "tokenizer").vocab_size // 8) * 8, **sizes)
    config = config.replace(max_positions=256)
    params = init_params(config, jax.random.key(0))
    save_hf_folder(root / "model", params, config=config, source_folder=root / "tokenizer")
    return root / "model"


def test_tokens_are_those_of_training_and_fill_rows_as_reported(base, tmp_path):
    output = write(tmp_path, tokenizer=str(base), row_length=64, mixture=MixtureSettings())
    chat = load_chat(base)
    lengths = [len(chat.example(item.trace().messages()).tokens) for item in items() if item.solution]
    assert output.unit == "tokens"
    assert sum(count.tokens for count in output.counts.values()) == sum(lengths)
    assert output.packing.num_tokens == sum(lengths) and output.packing.longest == max(lengths)
    assert 0.5 < output.packing.fill <= 1.0


def test_a_trace_that_cannot_be_rendered_is_named(base, tmp_path, monkeypatch):
    def refuse(chat, messages):
        raise UserError("no such role.")

    monkeypatch.setattr("phi4r.text.chat.Chat.example", refuse)
    with pytest.raises(UserError, match="item m0: no such role"):
        write(tmp_path, tokenizer=str(base))


def test_traces_that_are_too_long_are_refused_or_dropped_and_counted(base, tmp_path):
    long = [item(f"l{i}", "math/a/high", thought=" x" * (40 + i)) for i in range(3)]
    chat = load_chat(base)
    longest = max(len(chat.example(item.trace().messages()).tokens) for item in long)
    options = {"tokenizer": str(base), "row_length": 64, "rows": items() + long}
    with pytest.raises(UserError, match=rf"3 of 89 traces are longer than output.row_length=64 .* {longest} \(item l2"):
        write(tmp_path, **options)
    output = write(tmp_path, overlong="drop", **options)
    assert output.packing.num_overlong == 3 and output.packing.longest == longest
    ids = {row["id"] for row in rows_of(f"tfds:curated_sft/train@{tmp_path}")}
    assert not ids & {"l0", "l1", "l2"}
    assert len(rows_of(f"tfds:curated_rl/train@{tmp_path}")) == 88  # a long trace is a problem all the same


def test_sft_trains_on_the_sources_by_name(base, tmp_path):
    output = write(tmp_path / "data", rows=split_items(), tokenizer=str(base), row_length=64)
    section = {"sources": json.loads((tmp_path / "data" / "sources.json").read_text())}
    section |= {"row_length": 64, "global_batch": 8, "num_threads": 1}
    data = build(DataSettings, section, where="config.data")
    held = SourceSettings(f"tfds:curated_sft/held_out@{tmp_path / 'data'}")
    settings = SftSettings(
        init_from=str(base),
        data=data,
        num_steps=2,
        model=ModelOverrides(dtype="float32", remat="none"),
        optimizer=OptimizerSettings(learning_rate=1e-2, warmup_steps=1),
        logprob_chunk=16,
        log_every=1,
    )
    run_sft(settings, tmp_path / "run")
    assert [line["step"] for line in read_metrics(tmp_path / "run")][-1] == 2
    stats = TrainData(data, load_chat(base), seed=0).stats
    assert stats.num_examples == sum(count.kept for count in output.counts.values())
    assert stats.num_tokens == output.packing.num_tokens
    held_out = TrainData(dataclasses.replace(data, sources=(held,)), load_chat(base), seed=0)
    assert held_out.stats.num_examples == output.sft.splits["held_out"].num_rows
