"""Instructions about how a response is put together."""

from phi4r.verifiers.instructions.arguments import Arguments, Check

_DIVIDER = "******"


def two_responses(arguments: Arguments) -> Check:
    """There are two different answers with `******` between them; the divider may stand at either end too."""
    del arguments

    def check(text: str) -> bool:
        answers = [answer.strip() for answer in text.split(_DIVIDER)]
        filled = [answer for answer in answers if answer]
        return all(answers[1:-1]) and len(filled) == 2 and filled[0] != filled[1]

    return check


def repeat_prompt(arguments: Arguments) -> Check:
    """The response begins with `prompt_to_repeat`, in any case (another instruction may ask for a case)."""
    prompt = arguments.text("prompt_to_repeat").lower()
    return lambda text: text.strip().lower().startswith(prompt)
