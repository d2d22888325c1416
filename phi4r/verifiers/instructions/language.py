"""The instruction about the language of a response."""

from phi4r.verifiers.instructions.arguments import Arguments, Check
from phi4r.verifiers.instructions.detection import LANGUAGES, detected_language


def response_language(arguments: Arguments) -> Check:
    """The response is in `language`, an ISO 639-1 code; a text of a few letters is in every language.

    compat: see `detected_language`.
    """
    language = arguments.text("language")
    if language not in LANGUAGES:
        raise arguments.malformed("language", f"one of {', '.join(LANGUAGES)}")
    return lambda text: detected_language(text, compat=arguments.compat) in (language, None)
