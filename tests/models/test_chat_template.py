import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from banyan.foundation.errors import ModelError, RequestError
from banyan.models import chat_template
from banyan.models.chat_rendering import ChatRendering
from banyan.models.chat_template import ChatTemplate, read_chat_template
from tests.conftest import Checkpoint
from tests.models.checkpoints import CHAT_TEMPLATE

UNANSWERED = ChatRendering(add_generation_prompt=False)
CONTINUED = ChatRendering(add_generation_prompt=False, continue_final_message=True)
USER = [{"role": "user", "content": "Hi"}]


def render(source: str, **arguments: object) -> str:
    return ChatTemplate(source).render(USER, ChatRendering(variables=arguments))


def render_with(source: str, rendering: ChatRendering) -> str:
    return ChatTemplate(source).render(USER, rendering)


def test_a_conversation_becomes_a_prompt_that_waits_for_the_answer() -> None:
    template = ChatTemplate(CHAT_TEMPLATE)
    assert template.render(USER) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert template.render(USER, UNANSWERED) == "<|im_start|>user\nHi<|im_end|>\n"


def test_the_prompt_is_the_one_transformers_renders(checkpoint: Checkpoint) -> None:
    transformers = pytest.importorskip("transformers")
    source = (
        "{%- for message in messages %}\n"
        "    {%- if loop.index0 == 1 %}{% continue %}{% endif %}\n"
        "    {%- generation %}\n"
        "{{ message.role }}: {{ message['content'] | trim }}\n"
        "    {%- endgeneration %}\n"
        "{%- endfor %}\n"
        "{{ tools | tojson(indent=2) }}{{ eos_token }}"
    )
    messages = [
        {"role": role, "content": f" \u4f60\u597d <{role}> "} for role in ("user", "a", "b")
    ]
    tools = [{"type": "function", "function": {"name": "f", "description": "\u5929\u6c14 <b>"}}]
    reference = transformers.AutoTokenizer.from_pretrained(checkpoint("llama"))
    expected = reference.apply_chat_template(
        messages, tools=tools, chat_template=source, tokenize=False
    )
    ours = ChatTemplate(source, special_tokens={"eos_token": "<|im_end|>"})
    assert ours.render(messages, replace(UNANSWERED, tools=tools)) == expected


def test_the_clock_of_a_template_is_the_one_it_was_given() -> None:
    template = ChatTemplate("{{ strftime_now('%d %b %Y') }}", now=lambda: datetime(2024, 7, 26))
    assert template.render(USER) == "26 Jul 2024"


def test_further_variables_and_documents_reach_the_template() -> None:
    assert render("{{ enable_thinking }}", enable_thinking=False) == "False"
    documents = [{"title": "T"}]
    assert render_with("{{ documents[0].title }}", ChatRendering(documents=documents)) == "T"


def test_a_variable_cannot_take_the_place_of_the_messages() -> None:
    assert render("{{ messages | length }}", messages=[]) == "1"


def test_a_refusal_by_the_template_reaches_the_caller() -> None:
    with pytest.raises(RequestError, match="refused the messages: roles must alternate") as caught:
        render("{{ raise_exception('roles must alternate') }}")
    assert caught.value.parameter == "messages"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__['__builtins__'] }}",
        "{{ messages.append(1) }}",
        "{{ messages.__init__.__globals__ }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content.nothing.at.all }}",
    ],
)
def test_a_hostile_or_faulty_template_fails_safely(source: str) -> None:
    with pytest.raises(RequestError, match="the chat template of the model refused"):
        render(source)


def test_the_messages_of_the_caller_are_not_changed() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    with pytest.raises(RequestError):
        ChatTemplate("{{ messages[0].update({'role': 'system'}) }}").render(messages)
    assert messages == [{"role": "user", "content": "Hi"}]


def test_a_template_that_writes_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "MAX_RENDERED_CHARACTERS", 1000)
    with pytest.raises(RequestError, match="wrote more than 1000 characters"):
        render("{% for i in range(9999) %}{{ i }}{% endfor %}")


def test_a_syntax_error_names_its_line() -> None:
    with pytest.raises(ModelError, match="the chat template has an error in line 2"):
        ChatTemplate("a\n{% for %}")


def write_template(directory: Path, value: object) -> ChatTemplate | None:
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    return read_chat_template(directory, special_tokens={"bos_token": "<s>"})


def test_the_template_file_wins_over_the_field(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}file")
    template = write_template(tmp_path, "field")
    assert template is not None
    assert template.render(USER) == "<s>file"


def test_named_templates_are_chosen_by_whether_tools_are_given(tmp_path: Path) -> None:
    template = write_template(
        tmp_path,
        [
            {"name": "default", "template": "plain"},
            {"name": "tool_use", "template": "{{ tools | length }} tools"},
        ],
    )
    assert template is not None
    assert template.render(USER) == "plain"
    assert template.render(USER, ChatRendering(tools=[{"name": "f"}])) == "1 tools"


def test_a_model_without_a_template_has_none(tmp_path: Path) -> None:
    assert read_chat_template(tmp_path, special_tokens={}) is None
    assert write_template(tmp_path, None) is None


def test_a_template_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no template named 'default', found rag"):
        write_template(tmp_path, [{"name": "rag", "template": "x"}])
    with pytest.raises(ModelError, match="no template named 'default', found none"):
        write_template(tmp_path, [])
    with pytest.raises(ModelError, match="must be a string or a list of named templates"):
        write_template(tmp_path, [1])
    with pytest.raises(ModelError, match="must be a string or a list of named templates"):
        write_template(tmp_path, 3)


@pytest.mark.parametrize("source", ["{% break %}", "{% if 1 %}" * 200 + "{% endif %}" * 200])
def test_a_template_that_makes_no_program_is_refused(source: str) -> None:
    with pytest.raises(ModelError, match="the chat template cannot be compiled"):
        ChatTemplate(source)


def test_a_template_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match=r"chat_template\.jinja cannot be read as text"):
        read_chat_template(tmp_path, special_tokens={})


@pytest.mark.parametrize("text", ["It is", "It is ", "Ends\n\n"])
@pytest.mark.parametrize("filter_", ["", " | trim"])
def test_a_message_is_continued_as_transformers_does(
    checkpoint: Checkpoint, text: str, filter_: str
) -> None:
    transformers = pytest.importorskip("transformers")
    source = "{% for m in messages %}<{{ m.role }}>{{ m.content" + filter_ + " }}</>{% endfor %}"
    messages = [*USER, {"role": "assistant", "content": text}]
    reference = transformers.AutoTokenizer.from_pretrained(checkpoint("llama"))
    expected = reference.apply_chat_template(
        messages, chat_template=source, tokenize=False, continue_final_message=True
    )
    assert ChatTemplate(source).render(messages, CONTINUED) == expected
    assert expected.startswith("<user>Hi</><assistant>")


def test_a_message_that_is_not_there_cannot_be_continued() -> None:
    with pytest.raises(RequestError, match="leaves out the last message"):
        render_with("no messages", CONTINUED)
    with pytest.raises(RequestError, match="a last message with text"):
        ChatTemplate("").render([{"role": "assistant", "content": None}], CONTINUED)
    with pytest.raises(RequestError, match="set add_generation_prompt to false"):
        ChatRendering(continue_final_message=True)


def test_a_template_may_be_replaced_by_one_that_knows_the_same_special_tokens() -> None:
    own = ChatTemplate("own", special_tokens={"eos_token": "</s>"})
    assert own.replaced_by("{{ messages[0].content }}{{ eos_token }}").render(USER) == "Hi</s>"
    with pytest.raises(RequestError, match="error in line 1"):
        own.replaced_by("{% for %}")


def test_the_template_of_a_processor_wins_over_that_of_the_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "tokens"}))
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "pictures"}))
    template = read_chat_template(tmp_path, special_tokens={})
    assert template is not None
    assert template.render(USER) == "pictures"


def test_a_last_message_of_parts_is_continued_behind_its_last_text() -> None:
    source = "{% for part in messages[-1].content %}[{{ part.text }}]{% endfor %}"
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    text = ChatTemplate(source).render([{"role": "assistant", "content": parts}], CONTINUED)
    assert text == "[one][two"
    with pytest.raises(RequestError, match="a last message with text"):
        ChatTemplate(source).render([{"role": "user", "content": [{"type": "image"}]}], CONTINUED)
