"""Which language a text is in."""

import functools
import threading
import unicodedata
from collections.abc import Callable

from phi4r.errors import UserError

Detect = Callable[[str], str | None]

# The languages that instructions name, as ISO 639-1 codes; a detector chooses among these.
LANGUAGES = (
    *("ar", "bg", "bn", "de", "en", "es", "fa", "fi", "fr", "gu", "he", "hi", "it", "ja", "kn"),
    *("ko", "ml", "mr", "ne", "pa", "pl", "pt", "ru", "sw", "ta", "te", "th", "uk", "ur", "vi"),
)

# A longer text says no more, and normalising hostile text takes time quadratic in its length.
_MAX_LENGTH = 10_000
_MIN_LETTERS = 12  # "yes." could be of many languages

_loading = threading.Lock()


class NoDetectorError(UserError):
    """The library that detects languages is not installed."""


def detected_language(text: str, *, compat: bool = False) -> str | None:
    """Returns the ISO 639-1 code of the language of `text`, or None where it has too few letters to tell.

    compat: by langdetect, as the published scorer does it, with a fixed seed (the scorer has none, so the same response
    can be judged differently by it), however short the text. langdetect does not look at words in capital letters and
    often takes English ones for another language.

    Args:
      text: any text; at most its first 10,000 characters are looked at.
      compat: whether to ask langdetect, which knows more languages, instead of py3langid.

    Raises:
      NoDetectorError: if the detector is not installed.
    """
    text = text[:_MAX_LENGTH]
    num_letters = sum(unicodedata.category(character).startswith("L") for character in text)
    if num_letters < (1 if compat else _MIN_LETTERS):
        return None
    with _loading:
        detect = _langdetect() if compat else _py3langid()
    return detect(text)


@functools.cache
def _py3langid() -> Detect:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise _not_installed("py3langid") from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(LANGUAGES)
    return lambda text: identifier.classify(text)[0]


@functools.cache
def _langdetect() -> Detect:
    try:
        import langdetect
    except ImportError as error:
        raise _not_installed("langdetect") from error
    langdetect.DetectorFactory.seed = 0
    langdetect.detector_factory.init_factory()

    def detect(text: str) -> str | None:
        try:
            return langdetect.detect(text)
        except langdetect.LangDetectException:
            return None

    return detect


def _not_installed(library: str) -> NoDetectorError:
    return NoDetectorError(f"instructions about languages need {library}; run `pip install 'phi4r[ifeval]'`.")
