"""Messages to ids and loss mask.

The life of a conversation:

1. `_parts` lays its text out in parts: what the format writes, what a user wrote, what the assistant wrote. The Phi-4
   format is written out natively; a template of another format is rendered once with place holders for the
   contents, so the same parts are found in its output.
2. A part says which special tokens are parsed in it: all in the format's own text, which includes a fixed system
   message, none in what a caller wrote, only the think tags in the assistant's. So nobody can write `<|im_end|>`
   into a turn.
3. The parts are encoded in sections, cut where a trained response starts and where it ends, so that the ids of
   a prompt are always the beginning of the ids of its example.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from phi4r.errors import UserError
from phi4r.text.template import Message, phi4_template, read_template, render_template
from phi4r.text.tokenizer import END_THINK, THINK, Specials, Tokenizer, load_tokenizer

ROLES = ("system", "user", "assistant")
_FORMAT_TOKENS = ("<|im_start|>", "<|im_sep|>", "<|im_end|>")


@dataclass(frozen=True)
class Example:
    """A conversation to train on.

    Attributes:
      tokens: the ids of the whole conversation.
      trained: for each id whether it counts in the loss: the responses and the token that ends them.
    """

    tokens: list[int]
    trained: list[bool]


@dataclass(frozen=True)
class _Part:
    text: str
    specials: Specials
    trained: bool = False


@dataclass(frozen=True)
class Chat:
    """The chat format of a model.

    Attributes:
      tokenizer: the tokenizer of the model.
      template: jinja2 source of a format other than Phi-4's; None renders the Phi-4 format natively.
      system_message: a fixed system turn, as the reasoning models have; a caller's system turns are dropped.
        None keeps a caller's.
    """

    tokenizer: Tokenizer
    template: str | None = None
    system_message: str | None = None

    def __post_init__(self):
        missing = [t for t in _FORMAT_TOKENS if t not in self.tokenizer.special_tokens]
        if self.template is None and missing:
            raise UserError(
                f"the tokenizer has no {missing[0]} for the Phi-4 chat format; add the chat template of the model "
                "to its folder."
            )

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """Returns the text before a response to `messages`, up to and with the header of the assistant's turn.

        With a `template` this is what the template renders, letter for letter.

        Raises:
          UserError: for a malformed conversation, or one that ends with the assistant's turn.
        """
        return self._text(_checked_prompt(messages), add_generation_prompt=True)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Returns the ids of `prompt_text`, in which no content of a message is parsed for control tokens.

        Raises:
          UserError: for a malformed conversation, or one that ends with the assistant's turn.
        """
        parts = self._parts(_checked_prompt(messages), add_generation_prompt=True)
        if parts is None:
            parts = [self._whole(messages)]
        return [index for ids, _ in self._sections(parts) for index in ids]

    def example(self, messages: Sequence[Message]) -> Example:
        """Returns the ids and the loss mask of a conversation that ends with the assistant's response.

        Every response counts with the token that ends it, and nothing else does.

        Raises:
          UserError: for a malformed conversation, one without a response, a thought for a tokenizer without think
            tokens, or a template that rewrites contents.
        """
        _check(messages)
        if messages[-1]["role"] != "assistant":
            raise UserError("a conversation to train on must end with an assistant message; add the response.")
        if any(THINK in message["content"] for message in messages if message["role"] == "assistant"):
            _ = self.tokenizer.think_id  # a thought spelt in letters would teach nothing that a sampler understands
        parts = self._parts(messages, add_generation_prompt=False)
        if parts is None:
            raise UserError(
                "the chat template rewrites what the messages say, so the response cannot be told from the rest; "
                "train with a template that copies every content once and as it is."
            )
        tokens: list[int] = []
        trained: list[bool] = []
        for ids, counts in self._sections(parts):
            tokens.extend(ids)
            trained.extend([counts] * len(ids))
        return Example(tokens, trained)

    def _sections(self, parts: Sequence[_Part]) -> Iterator[tuple[list[int], bool]]:
        """Yields the ids of each run of parts that are all trained or all not."""
        start = 0
        for end in range(1, len(parts) + 1):
            if end == len(parts) or parts[end].trained != parts[start].trained:
                section = [(part.text, part.specials) for part in parts[start:end]]
                yield self.tokenizer.encode_parts(section), parts[start].trained
                start = end

    def _text(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        messages = self._with_system(messages)
        if self.template is None:
            return "".join(part.text for part in self._native_parts(messages, add_generation_prompt))
        return self._render(messages, add_generation_prompt)

    def _parts(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> list[_Part] | None:
        """Returns the conversation in parts, or None where the template changes a content."""
        messages = self._with_system(messages)
        if self.template is None:
            return self._native_parts(messages, add_generation_prompt)
        return self._template_parts(messages, add_generation_prompt)

    def _with_system(self, messages: Sequence[Message]) -> list[Message]:
        if self.system_message is None:
            return list(messages)
        others = [message for message in messages if message["role"] != "system"]
        return [{"role": "system", "content": self.system_message}, *others]

    def _native_parts(self, messages: Sequence[Message], add_generation_prompt: bool) -> list[_Part]:
        parts = []
        for message in messages:
            parts.append(_Part(f"<|im_start|>{message['role']}<|im_sep|>", specials=True))
            parts.append(self._content(message))
            parts.append(_Part("<|im_end|>", specials=True, trained=message["role"] == "assistant"))
        if add_generation_prompt:
            parts.append(_Part("<|im_start|>assistant<|im_sep|>", specials=True))
        return parts

    def _template_parts(self, messages: Sequence[Message], add_generation_prompt: bool) -> list[_Part] | None:
        # U+E000.. are private-use characters: no template treats them in any way of its own.
        marks = [f"\ue000{i}\ue001" for i in range(len(messages))]
        marked = [{**message, "content": mark} for message, mark in zip(messages, marks, strict=True)]
        parts: list[_Part] = []
        trained = False
        for i, piece in enumerate(re.split("\ue000(\\d+)\ue001", self._render(marked, add_generation_prompt))):
            if i % 2:
                content = self._content(messages[int(piece)])
                parts.append(content)
                trained = content.trained
            elif trained:
                parts.extend(self._end_of_turn(piece))
                trained = False
            else:
                parts.append(_Part(piece, specials=True))
        text = "".join(part.text for part in parts)
        return parts if text == self._render(messages, add_generation_prompt) else None

    def _end_of_turn(self, text: str) -> list[_Part]:
        """Cuts the text that follows a response after its first special token, which the model learns to write."""
        ends = [text.find(t) + len(t) for t in self.tokenizer.special_tokens if t in text]
        if not ends:
            raise UserError(
                "the chat template writes no special token after a response, so a model trained on it would never "
                "stop; train with a template that ends the assistant's turn."
            )
        return [_Part(text[: min(ends)], specials=True, trained=True), _Part(text[min(ends) :], specials=True)]

    def _content(self, message: Message) -> _Part:
        return _Part(message["content"], self._specials_in(message), trained=message["role"] == "assistant")

    def _specials_in(self, message: Message) -> Specials:
        """Returns which special tokens are parsed in the content of `message`."""
        if message["role"] == "assistant":
            return frozenset(tag for tag in (THINK, END_THINK) if tag in self.tokenizer.special_tokens)
        # The fixed system message is the format's own text: the released one names the think tags, and their ids
        # stand in every prompt that the released models were trained on.
        return message["role"] == "system" and self.system_message is not None

    def _whole(self, messages: Sequence[Message]) -> _Part:
        """Returns a rendered prompt as one part, where no content could pass for a control token."""
        for message in self._with_system(messages):
            allowed = self._specials_in(message)
            tokens = () if allowed is True else self.tokenizer.special_tokens.keys() - set(allowed or ())
            if found := sorted(token for token in tokens if token in message["content"]):
                raise UserError(
                    f"a {message['role']} message contains {found[0]}, and the chat template rewrites contents, so it "
                    "cannot be told from a control token; take it out of the message."
                )
        return _Part(self._text(messages, add_generation_prompt=True), specials=True)

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        roles = {"bos_token": self.tokenizer.bos_id, "eos_token": self.tokenizer.eos_id}
        variables = {name: self.tokenizer.decode([i]) for name, i in roles.items() if i is not None}
        return render_template(
            self.template, messages, add_generation_prompt=add_generation_prompt, variables=variables
        )


def load_chat(folder: str | os.PathLike) -> Chat:
    """Opens the tokenizer and the chat format of a model folder.

    The folder's template decides. Where it renders what the Phi-4 format does, with or without a fixed system turn,
    the native route is taken; any other template is kept and rendered.

    Raises:
      UserError: where the folder holds no tokenizer, or neither a template nor the tokens of the Phi-4 format.
    """
    tokenizer = load_tokenizer(Path(folder))
    template = read_template(folder)
    if template is None:
        return Chat(tokenizer)
    foreign = Chat(tokenizer, template)
    if any(token not in tokenizer.special_tokens for token in _FORMAT_TOKENS):
        return foreign
    for system_message in dict.fromkeys([None, _fixed_system_message(template)]):
        native = Chat(tokenizer, system_message=system_message)
        if _render_alike(native, foreign):
            return native
    return foreign


def _fixed_system_message(template: str) -> str | None:
    """Returns the system turn that a template in the Phi-4 format puts in front of a lone question."""
    question = [{"role": "user", "content": "?"}]
    try:
        text = render_template(template, question, add_generation_prompt=True)
    except UserError:
        return None
    rest = render_template(phi4_template(), question, add_generation_prompt=True)
    match = re.match(r"<\|im_start\|>system<\|im_sep\|>(.*)<\|im_end\|>", text.removesuffix(rest), re.DOTALL)
    return match[1] if match else None


def _render_alike(native: Chat, foreign: Chat) -> bool:
    """Whether two formats agree on every shape of conversation and on contents that templates like to change."""
    system = {"role": "system", "content": " \n a rule \n"}
    user = {"role": "user", "content": "\n a question <b> \n"}
    response = {"role": "assistant", "content": " <think> so </think> \n yes \n"}
    prompts = [[user], [system, user], [system, user, response, user]]
    try:
        for prompt in prompts:
            if native.prompt_text(prompt) != foreign.prompt_text(prompt):
                return False
            example = [*prompt, response]
            texts = {chat._text(example, add_generation_prompt=False) for chat in (native, foreign)}
            if len(texts) > 1:
                return False
    except UserError:  # a template may refuse a system turn
        return False
    return True


def _checked_prompt(messages: Sequence[Message]) -> Sequence[Message]:
    _check(messages)
    if messages[-1]["role"] == "assistant":
        raise UserError("a prompt must not end with an assistant message; drop it, or ask a further question.")
    return messages


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise UserError("a conversation needs at least one message.")
    for message in messages:
        if message.get("role") not in ROLES:
            raise UserError(f"a message has the role {message.get('role')!r}; use one of {', '.join(ROLES)}.")
        if not isinstance(message.get("content"), str):
            raise UserError(f"the content of a {message['role']} message must be text; got {message.get('content')!r}.")
