"""How long items are: in tokens of the model that is trained, or in words where no tokenizer is at hand."""

from collections.abc import Callable

from phi4r.curation.item import Item
from phi4r.errors import UserError

TOKENS, WORDS = "tokens", "words"


def make_counter(folder: str) -> tuple[Callable[[Item], int], str]:
    """Returns what counts the length of a trace, and its unit.

    Args:
      folder: of a model or tokenizer; its tokens are those of training, with system turn and marks of the turns. Empty
        for words: of prompt, thought and solution.

    Raises:
      UserError: if the folder has no tokenizer; when counting, for an item that cannot be rendered.
    """
    if not folder:
        return lambda item: sum(len(text.split()) for text in (item.prompt, item.thought, item.solution)), WORDS
    from phi4r.text.chat import load_chat

    chat = load_chat(folder)

    def count(item: Item) -> int:
        try:
            return len(chat.example(item.trace().messages()).tokens)
        except UserError as error:
            raise UserError(f"item {item.id}: {error}") from error

    return count, TOKENS
