import pytest

from phi4r.errors import UserError
from phi4r.text.template import phi4_template, read_template, render_template

MESSAGES = [{"role": "user", "content": "<b> & 'x'"}, {"role": "assistant", "content": "yes"}]


def render(template, **variables):
    return render_template(template, MESSAGES, add_generation_prompt=False, variables=variables)


def test_blocks_are_trimmed_as_transformers_does():
    template = (
        "{% for m in messages %}\n    {% if m.role == 'user' %}\n  {{ m.content }}\n    {% endif %}\n{% endfor %}\n"
    )
    assert render(template) == "  <b> & 'x'\n"


def test_templates_find_what_transformers_gives_them():
    assert render("{{ bos_token }}{{ messages[0] | tojson }}", bos_token="<s>") == (
        '<s>{"role": "user", "content": "<b> & \'x\'"}'
    )
    template = "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}"
    assert render(template) == "user"
    template = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %};{% endfor %}"
    assert render(template) == "<b> & 'x';yes;"


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no system turn here') }}",
        "{% for m in messages %}",
        "{{ messages[0].content + 1 }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    ],
)
def test_a_template_that_fails_or_leaves_the_sandbox_is_refused(template):
    with pytest.raises(UserError, match="the chat template failed"):
        render(template)


@pytest.mark.parametrize(
    "text", ["plain", "a \"quoted\" 'word'", "back\\slash \\n", "{{ braces }} {% x %}", "\n é 🙂 \t"]
)
def test_a_fixed_system_message_is_rendered_letter_for_letter(text):
    assert render_template(phi4_template(text), [], add_generation_prompt=False) == (
        f"<|im_start|>system<|im_sep|>{text}<|im_end|>"
    )


def test_a_folder_may_have_no_template(tmp_path):
    assert read_template(tmp_path) is None
