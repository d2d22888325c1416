import types

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from phi4r.data.hub import download
from phi4r.data.tables import read_rows
from phi4r.errors import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the Hub's client, which is offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def put(cache, name: str, text: str) -> None:
    """Puts a file of OWNER/NAME where the Hub's client keeps it."""
    repository = cache / "datasets--owner--name"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(COMMIT)
    file = repository / "snapshots" / COMMIT / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_offline_without_a_copy_says_where_the_data_is_and_how_to_pass_it(cache):
    with pytest.raises(UserError) as refused:
        download("owner/name", "data/test-*.jsonl", licence="CC BY 4.0")
    message = str(refused.value)
    assert "https://huggingface.co/datasets/owner/name (licence: CC BY 4.0)" in message
    assert "TASK:PATH" in message
    assert "HF_HUB_OFFLINE is set" in message
    assert "\n" not in message


def test_offline_asks_nothing_of_the_network(cache, monkeypatch):
    def connect(*unused, **options):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr("socket.getaddrinfo", connect)
    monkeypatch.setattr("socket.socket.connect", connect)
    with pytest.raises(UserError, match="not in the cache"):
        download("owner/name", "test.jsonl", licence="MIT")


def test_what_is_in_the_cache_is_read_from_there(cache):
    put(cache, "data/test-0.jsonl", '{"a": 1}\n')
    put(cache, "data/test-1.jsonl", '{"a": 2}\n')
    put(cache, "data/train-0.jsonl", '{"a": 3}\n')
    several = download("owner/name", "data/test-*.jsonl", licence="MIT")
    assert [row["a"] for _, row in read_rows(str(several))] == [1, 2]
    one = download("owner/name", "data/train-*.jsonl", licence="MIT")
    assert (one.name, one.read_text()) == ("train-0.jsonl", '{"a": 3}\n')


def test_a_cache_without_the_file_is_told_from_one_with_it(cache):
    put(cache, "README.md", "no data")
    with pytest.raises(UserError, match="no such file in it"):
        download("owner/name", "test.jsonl", licence="MIT")


REFUSED = types.SimpleNamespace(headers={}, request=None)  # of an HTTP client; which one depends on the version


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.GatedRepoError("no", response=REFUSED), "accept their terms on its page"),
        (errors.RepositoryNotFoundError("no", response=REFUSED), "no such data set, or it is private"),
        (errors.LocalEntryNotFoundError("no"), "cannot be reached"),
        (ConnectionError("the proxy said no\nat length"), r"ConnectionError: the proxy said no\)"),
    ],
)
def test_every_failure_of_the_hub_is_one_line(cache, monkeypatch, error, words):
    def fail(*unused, **options):
        raise error

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError, match=words) as refused:
        download("owner/name", "test.jsonl", licence="MIT")
    assert "\n" not in str(refused.value)
