import json

import pytest

from phi4r.curation.item import Item
from phi4r.curation.overlap.decontamination import Decontamination, DecontaminationSettings
from phi4r.tools import cli

DICE = "what is the probability that at least one of the two dice shows a six"  # 15 words, three 13-grams
FARM = "a farmer has twelve brown hens and five white ducks in his old barn in June"  # 16 words, four


@pytest.fixture
def places(tmp_path):
    """A benchmark, and a corpus in which six texts of three sites have its first text, and one has its second."""
    rows = {
        "benchmark.jsonl": [{"question": f"Say, {DICE}?"}, {"question": FARM}],
        "corpus.jsonl": [{"site": f"{n // 2}.org", "text": f"Tell me {DICE.upper()}!"} for n in range(6)]
        + [{"site": "9.org", "text": FARM}],
    }
    for name, of_file in rows.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in of_file))
    return f"file:{tmp_path / 'benchmark.jsonl'}?fields=question", tmp_path / "corpus.jsonl", tmp_path / "common.txt"


def test_what_is_common_in_the_corpus_is_left_alone(places, capsys):
    benchmark, corpus, output = places
    cli.main(["allow-list", str(corpus), "--benchmarks", benchmark, "--fields=text", "--least=6", f"--output={output}"])
    # The benchmark has 4 13-grams of the first text ("say" goes before it) and 4 of the second.
    assert capsys.readouterr().out == f"wrote {output}: 3 of 8 13-grams, by 7 texts\n"
    words = DICE.split()
    assert output.read_text().splitlines() == sorted(" ".join(words[n : n + 13]) for n in range(3))
    items = [
        Item("d", f"Now {DICE} or a five, a four or a three, and not twice in a row of any of them?"),
        Item("f", FARM),
    ]
    kept = {
        allow: [outcome.kept for outcome in Decontamination(settings)(items)]
        for allow in ("", str(output))
        for settings in [DecontaminationSettings(benchmarks=(benchmark,), allow_list=allow, contaminated_ratio=1.0)]
    }
    assert kept == {"": [False, False], str(output): [True, False]}


def test_copies_at_one_source_count_once(places, capsys):
    benchmark, corpus, output = places
    arguments = ["allow-list", str(corpus), "--benchmarks", benchmark, "--fields=text", f"--output={output}"]
    for least, common in ((3, 3), (4, 0)):
        cli.main([*arguments, "--source-field=site", f"--least={least}"])
        assert f"{common} of 8 13-grams" in capsys.readouterr().out


def test_a_misspelt_field_is_one_line(places, capsys):
    benchmark, corpus, output = places
    with pytest.raises(SystemExit) as stopped:
        cli.main(["allow-list", str(corpus), "--benchmarks", benchmark, "--fields=txt", f"--output={output}"])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"phi4r allow-list: {corpus}:1 has no 'txt' to protect; its fields are site, text."
    assert not output.exists()
