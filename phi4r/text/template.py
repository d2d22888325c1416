"""Chat templates: the jinja2 source that a model folder carries, rendered in a sandbox as transformers does it."""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phi4r.errors import UserError
from phi4r.text.files import CONFIG_FILE, TEMPLATE_FILE, read_json

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": text}

_TURN = "{{ '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>' }}"
_PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"


def phi4_template(system_message: str | None = None) -> str:
    """Returns a chat template of the Phi-4 format: no newline between turns and no bos.

    Args:
      system_message: the hard-coded system turn of a reasoning model, which drops a caller's; None renders the
        system turns of the conversation, as phi-4 does.
    """
    if system_message is None:
        return "{% for message in messages %}" + _TURN + "{% endfor %}" + _PROMPT
    literal = json.dumps(system_message, ensure_ascii=False)  # a JSON string is a jinja string as well
    system = "{{ '<|im_start|>system<|im_sep|>' + " + literal + " + '<|im_end|>' }}"
    turns = "{% for message in messages if message['role'] != 'system' %}" + _TURN + "{% endfor %}"
    return system + turns + _PROMPT


def read_template(folder: str | os.PathLike) -> str | None:
    """Returns the chat template of `folder`, from `chat_template.jinja` or else tokenizer_config.json, or None."""
    path = Path(folder) / TEMPLATE_FILE
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = read_json(Path(folder) / CONFIG_FILE).get("chat_template")
    if isinstance(template, list):  # several named ones
        template = next((entry["template"] for entry in template if entry["name"] == "default"), None)
    return template


def render_template(
    template: str,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Returns the text of `messages` under the jinja2 source `template`.

    The template of a downloaded folder is untrusted code: it runs in jinja2's immutable sandbox.

    Args:
      template: the jinja2 source.
      messages: the conversation.
      add_generation_prompt: whether to end with the header of an assistant turn.
      variables: further names for the template, such as `bos_token`.

    Raises:
      UserError: where the template is wrong or refuses the conversation.
    """
    from jinja2 import TemplateError

    try:
        return _compiled(template).render(
            messages=[dict(message) for message in messages],
            add_generation_prompt=add_generation_prompt,
            **(variables or {}),
        )
    except (TemplateError, TypeError) as error:
        raise UserError(f"the chat template failed: {error}; mend the template or the conversation.") from error


@functools.lru_cache(maxsize=16)
def _compiled(template: str):
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _generation_tag()]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    # No clock (`strftime_now`): the same conversation is the same prompt on any day.
    return environment.from_string(template)


def _generation_tag():
    """Returns the extension for `{% generation %}`, with which templates mark what the assistant wrote.

    The marks are passed over: the loss mask comes from the contents themselves, in any template.
    """
    from jinja2 import nodes
    from jinja2.ext import Extension

    class GenerationTag(Extension):
        tags = frozenset({"generation"})

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    return GenerationTag


def _to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False) -> str:
    """Replaces jinja2's filter, which escapes HTML characters."""
    return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)


def _raise_exception(message: str):
    from jinja2 import TemplateError

    raise TemplateError(message)
