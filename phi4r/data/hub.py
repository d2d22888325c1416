"""Data sets of the Hugging Face Hub, in its usual cache (HF_HOME, HF_HUB_CACHE and HF_TOKEN apply)."""

import pathlib

from phi4r.errors import UserError

_MAX_REASON = 160  # characters


def download(dataset: str, pattern: str, *, licence: str) -> pathlib.Path:
    """Gets the files of a data set that match `pattern`, from the cache where they are there.

    Nothing is asked of the network under HF_HUB_OFFLINE=1.

    Args:
      dataset: "OWNER/NAME" on the Hub.
      pattern: of the paths of the files there, as "data/test-*.parquet".
      licence: of the data, for the message.

    Returns:
      The path of the file, or of the pattern where it has several: a place that `read_rows` takes.

    Raises:
      UserError: if they cannot be had, in one line that says where they are, under which licence, and how to pass a
        local copy.
    """
    import huggingface_hub

    try:
        snapshot = huggingface_hub.snapshot_download(dataset, repo_type="dataset", allow_patterns=pattern)
    except Exception as error:  # its own errors, those of its HTTP client, of the disk: all mean no data
        raise UserError(_advice(dataset, pattern, licence, reason=_reason(error))) from error
    root = pathlib.Path(snapshot)
    found = list(root.glob(pattern))
    if not found:
        raise UserError(_advice(dataset, pattern, licence, reason="no such file in it"))
    return found[0] if len(found) == 1 else root / pattern


def _advice(dataset: str, pattern: str, licence: str, *, reason: str) -> str:
    return (
        f"cannot get {pattern} of the data set {dataset} ({reason}); get it from "
        f"https://huggingface.co/datasets/{dataset} (licence: {licence}) and pass the file or folder as TASK:PATH."
    )


def _reason(error: Exception) -> str:
    """Returns what was wrong, in a few words."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return "its owners ask to be asked first: accept their terms on its page, and log in with `hf auth login`"
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set, and it is not in the cache"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the Hub has no such data set, or it is private"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "the Hub cannot be reached, and it is not in the cache"
    return f"{type(error).__name__}: {error}".splitlines()[0][:_MAX_REASON]
