"""Turn a conversation into the prompt a model was trained on.

A chat template is code that came with a model, so it runs in Jinja's immutable sandbox: it cannot
reach the attributes of Python objects or change what it is given. Variables and filters are those
of transformers (`messages`, `tools`, `documents`, `add_generation_prompt`, `raise_exception`,
`strftime_now`, `tojson`), so templates written for it render the same text.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from banyan.foundation.errors import ModelError, RequestError
from banyan.models.chat_rendering import ORDINARY_RENDERING, ChatRendering
from banyan.models.json_fields import Fields

Message = Mapping[str, Any]

# No text holds it by accident: two characters of private use; templates that trim drop the space.
_OPEN_END = "\ue1fa\ue2fb "

# A template may repeat text in loops; a prompt longer than this fits no model.
MAX_RENDERED_CHARACTERS = 50_000_000


class ChatTemplate:
    """One compiled template with the special tokens it may write."""

    def __init__(
        self,
        source: str,
        *,
        special_tokens: Mapping[str, str] | None = None,
        tool_source: str | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """Compile `source`; `tool_source` is used instead when tools are given.

        Raises:
            ModelError: the template has a syntax error.
        """
        self.source = source if tool_source is None else f"{source}\n{tool_source}"
        environment = _environment(now)
        try:
            self._template = environment.from_string(source)
            self._tool_template = (
                self._template if tool_source is None else environment.from_string(tool_source)
            )
        except jinja2.TemplateSyntaxError as error:
            raise ModelError(
                f"the chat template has an error in line {error.lineno}: {error.message}"
            ) from error
        except (SyntaxError, RecursionError) as error:  # Jinja writes Python, which has limits
            raise ModelError(f"the chat template cannot be compiled: {error}") from error
        self._source = source
        self._special_tokens = dict(special_tokens or {})

    def knows_roles(self, *roles: str) -> bool:
        """Tell whether the template names all these roles of messages."""
        return all(f"'{role}'" in self._source or f'"{role}"' in self._source for role in roles)

    def render(
        self, messages: Sequence[Message], rendering: ChatRendering = ORDINARY_RENDERING
    ) -> str:
        """Give the prompt of a conversation; it holds its special tokens already.

        Raises:
            RequestError: the template refused the conversation or failed on it.
        """
        template = self._tool_template if rendering.tools else self._template
        shown = _left_open(messages) if rendering.continue_final_message else list(messages)
        values = {
            **self._special_tokens,
            **rendering.variables,
            "messages": shown,
            "tools": rendering.tools,
            "documents": rendering.documents,
            "add_generation_prompt": rendering.add_generation_prompt,
        }
        text = _render_limited(template, values)
        return _cut_at_mark(text) if rendering.continue_final_message else text

    def replaced_by(self, source: str) -> "ChatTemplate":
        """Compile another template that knows the same special tokens.

        Raises:
            RequestError: the template has an error.
        """
        try:
            return ChatTemplate(source, special_tokens=self._special_tokens)
        except ModelError as error:
            raise RequestError(str(error), parameter="chat_template") from error


def _left_open(messages: Sequence[Message]) -> list[Message]:
    """Mark the end of the last message's text, to find it again in what the template wrote."""
    last = messages[-1] if messages else {}
    content = last.get("content")
    if isinstance(content, str):
        return [*messages[:-1], {**last, "content": content + _OPEN_END}]
    if isinstance(content, list) and content and content[-1].get("type") == "text":
        marked = {**content[-1], "text": content[-1]["text"] + _OPEN_END}
        return [*messages[:-1], {**last, "content": [*content[:-1], marked]}]
    raise RequestError(
        "continue_final_message needs a last message with text", parameter="continue_final_message"
    )


def _cut_at_mark(text: str) -> str:
    """End the text where the last message ends."""
    place = text.rfind(_OPEN_END.rstrip())
    if place < 0:
        raise RequestError(
            "the chat template of the model leaves out the last message, so it cannot be continued",
            parameter="continue_final_message",
        )
    # A template that trims messages would have trimmed this one, too.
    was_trimmed = not text.startswith(_OPEN_END, place)
    return text[:place].rstrip() if was_trimmed else text[:place]


def _render_limited(template: jinja2.Template, values: Mapping[str, Any]) -> str:
    pieces: list[str] = []
    num_characters = 0
    try:
        for piece in template.generate(values):
            num_characters += len(piece)
            if num_characters > MAX_RENDERED_CHARACTERS:
                raise RequestError(
                    f"the chat template wrote more than {MAX_RENDERED_CHARACTERS} characters",
                    parameter="messages",
                )
            pieces.append(piece)
    except RequestError:
        raise
    except Exception as error:  # the template is code from outside: any failure is the request's
        raise RequestError(
            f"the chat template of the model refused the messages: {error}", parameter="messages"
        ) from error
    return "".join(pieces)


def read_chat_template(
    directory: Path, *, special_tokens: Mapping[str, str]
) -> ChatTemplate | None:
    """Read the template of a model directory, or give None when it has none.

    `chat_template.jinja` wins over `chat_template.json`, which models that see have, and that over
    the field in `tokenizer_config.json`: a string or a list of named templates ("default",
    "tool_use").
    """
    path = directory / "chat_template.jinja"
    if path.is_file():
        return ChatTemplate(_read_text(path), special_tokens=special_tokens)
    for name in ("chat_template.json", "tokenizer_config.json"):
        configuration = directory / name
        if not configuration.is_file():
            continue
        value = Fields.read(configuration).values.get("chat_template")
        if value is not None:
            return _chosen(value, configuration, special_tokens)
    return None


def _chosen(value: Any, configuration: Path, special_tokens: Mapping[str, str]) -> ChatTemplate:
    sources = _named_sources(value, configuration)
    if "default" not in sources:
        raise ModelError(
            f"{configuration}: chat_template has no template named 'default', found "
            f"{', '.join(sorted(sources)) or 'none'}"
        )
    return ChatTemplate(
        sources["default"],
        special_tokens=special_tokens,
        tool_source=sources.get("tool_use"),
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as text: {error}") from error


def _named_sources(value: Any, path: Path) -> dict[str, str]:
    if isinstance(value, str):
        return {"default": value}
    try:
        return {str(item["name"]): str(item["template"]) for item in value}
    except (TypeError, KeyError) as error:
        raise ModelError(
            f"{path}: chat_template must be a string or a list of named templates"
        ) from error


class _GenerationBlocks(Extension):
    """Accept `{% generation %}`, which marks answers for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012  (the type Jinja declares)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def _environment(now: Callable[[], datetime]) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationBlocks]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda pattern: now().strftime(pattern)
    return environment


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as it is; Jinja's own filter would escape it for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
