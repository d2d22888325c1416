"""Instructions about the beginning and the end of a response."""

from phi4r.verifiers.instructions.arguments import Arguments, Check


def end_checker(arguments: Arguments) -> Check:
    """The response ends with `end_phrase`, in any case; a double quotation mark may follow."""
    phrase = arguments.text("end_phrase").lower()
    return lambda text: text.strip().strip('"').lower().endswith(phrase)


def quotation(arguments: Arguments) -> Check:
    """The whole response is in double quotation marks, straight ones."""
    del arguments

    def check(text: str) -> bool:
        text = text.strip()
        return len(text) > 1 and text.startswith('"') and text.endswith('"')

    return check
