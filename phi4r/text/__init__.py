"""Text and tokens: tokenizers, chat formats with their loss masks, and the think block. Never imports jax."""

from phi4r.text.chat import Chat, Example, load_chat
from phi4r.text.thinking import ResponseParts, split_response, think_format_ok, think_format_ok_ids
from phi4r.text.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "Chat",
    "Example",
    "ResponseParts",
    "Tokenizer",
    "load_chat",
    "load_tokenizer",
    "split_response",
    "think_format_ok",
    "think_format_ok_ids",
]
