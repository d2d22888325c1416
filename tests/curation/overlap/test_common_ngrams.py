import json

import pytest

from phi4r.curation.overlap import common_ngrams as module
from phi4r.curation.overlap.common_ngrams import common_ngrams, corpus_texts, read_allow_list, write_allow_list
from phi4r.curation.overlap.index_building import build_index
from phi4r.curation.overlap.protected_texts import ProtectedText
from phi4r.errors import UserError


@pytest.fixture(scope="module")
def index():
    texts = ["the sum of all x is", "what is the sum of"]
    return build_index((ProtectedText("b", t, "prompt", t) for t in texts), long_size=3, short_size=2)


CORPUS = [
    ("a", "The sum of, the SUM of; all x"),  # the sum of, sum of all, of all x
    ("a", "the sum of all"),  # the sum of, sum of all
    ("b", "what is the sum of"),  # what is the, is the sum, the sum of
    ("b", "of all x"),
    ("c", "nothing at all"),
]


@pytest.mark.parametrize("batch", [1, 2, 100])
@pytest.mark.parametrize(
    ("least", "by_text", "by_source"),
    [
        (
            1,
            "is the sum|of all x|sum of all|the sum of|what is the",
            "is the sum|of all x|sum of all|the sum of|what is the",
        ),
        (2, "of all x|sum of all|the sum of", "of all x|the sum of"),
        (3, "the sum of", ""),
        (4, "", ""),
    ],
)
def test_what_enough_texts_or_sources_have_is_common(index, batch, least, by_text, by_source, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", batch)
    assert "|".join(common_ngrams(index, CORPUS, least=least)) == by_source
    assert "|".join(common_ngrams(index, (("", text) for _, text in CORPUS), least=least)) == by_text


def test_a_corpus_is_read_with_its_sources(tmp_path):
    path = tmp_path / "corpus.jsonl"
    rows = [{"site": "x.org", "title": "T", "text": "one"}, {"site": "y.org", "title": "U", "text": "two"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(corpus_texts(str(path), fields=("text",), source_field="site")) == [("x.org", "one"), ("y.org", "two")]
    assert list(corpus_texts(str(path), fields=("title", "text"))) == [("", "T\n\none"), ("", "U\n\ntwo")]
    with pytest.raises(UserError, match=r"corpus\.jsonl:1 has no 'host' that names its source"):
        list(corpus_texts(str(path), source_field="host"))


def test_the_list_is_text_that_a_person_can_edit(tmp_path):
    path = tmp_path / "list" / "allow.txt"
    write_allow_list(path, ["a b c", "é f g"])
    assert path.read_text(encoding="utf-8") == "a b c\né f g\n"
    path.write_text("# common\n\na b c  \n", encoding="utf-8")
    assert read_allow_list(path) == ["a b c"]
    with pytest.raises(UserError, match=r"the allow-list .* cannot be read"):
        read_allow_list(tmp_path / "nowhere")
