"""The instruction about commas."""

from phi4r.verifiers.instructions.arguments import Arguments, Check

_COMMAS = ",\u060c\uff0c\u3001"  # Latin, Arabic, and two of Chinese and Japanese


def no_comma(arguments: Arguments) -> Check:
    """There is no comma of any script.

    compat: only the Latin comma is one.
    """
    commas = _COMMAS[0] if arguments.compat else _COMMAS
    return lambda text: not any(comma in text for comma in commas)
