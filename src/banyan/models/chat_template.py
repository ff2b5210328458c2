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
from banyan.models.json_fields import Fields

Message = Mapping[str, Any]

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
        self._special_tokens = dict(special_tokens or {})

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Give the prompt of a conversation; it holds its special tokens already.

        `variables` are further names a template may read, such as `enable_thinking`.

        Raises:
            RequestError: the template refused the conversation or failed on it.
        """
        template = self._tool_template if tools else self._template
        values = {
            **self._special_tokens,
            **(variables or {}),
            "messages": list(messages),
            "tools": tools,
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
        }
        return _render_limited(template, values)


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

    `chat_template.jinja` wins over the field in `tokenizer_config.json`, which is a string or a
    list of named templates ("default", "tool_use").
    """
    path = directory / "chat_template.jinja"
    if path.is_file():
        return ChatTemplate(_read_text(path), special_tokens=special_tokens)
    configuration = directory / "tokenizer_config.json"
    if not configuration.is_file():
        return None
    value = Fields.read(configuration).values.get("chat_template")
    if value is None:
        return None
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
