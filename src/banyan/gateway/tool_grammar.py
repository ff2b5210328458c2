"""Grammars that make a model call tools, in the way its family writes calls. Pure.

The text is llguidance's variant of Lark. Marks that are tokens of their own cannot be spelled in
it; `mark` writes those by their number.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from banyan.engine.structure.schema_text import embedded_schema
from banyan.foundation.errors import RequestError
from banyan.gateway.parsing.styles import (
    DEEPSEEK_CALL,
    DEEPSEEK_CALL_END,
    DEEPSEEK_CALLS,
    DEEPSEEK_CALLS_END,
    DEEPSEEK_SEPARATOR,
    TOOL_CALLS,
)

Mark = Callable[[str], str]
"""Writes a mark for a grammar: its text in quotes, or the number of its token."""

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CallRules:
    """How one style writes calls: around all of them, and around the arguments of one."""

    before: str
    between: str
    after: str
    opening: Callable[[str], str]
    closing: str


def calls_grammar(
    style: str,
    tools: Mapping[str, Schema],
    *,
    mark: Mark,
    several: bool,
    has_new_mistral_marks: bool = False,
    answer: Schema | bool | None = None,
) -> str:
    """Write the grammar of one call or several.

    Args:
        style: name of a parser of tool calls.
        tools: the schema of the arguments of each tool that may be called, by name.
        mark: writes a mark of the style.
        several: more than one call may follow.
        has_new_mistral_marks: the tokenizer knows `[ARGS]`.
        answer: schema of an answer that may come instead of calls.
    """
    if style in {"qwen3_coder", "qwen3_xml"}:
        rules, bodies = _coder(tools, mark)
    else:
        rules = _rules(style, mark, has_new_mistral_marks=has_new_mistral_marks)
        bodies = [
            f"body_{index}: %json {embedded_schema(schema)}"
            for index, schema in enumerate(tools.values())
        ]
    more = f" ({_join(rules.between, 'call')})*" if several else ""
    lines = [
        "%llguidance {}",
        "start: calls" if answer is None else "start: calls | answer",
        f"calls: {_join(rules.before, 'call')}{more} {rules.after}".rstrip(),
        "call: " + " | ".join(f"call_{index}" for index in range(len(tools))),
        *(
            f"call_{index}: {_join(rules.opening(name), f'body_{index}', rules.closing)}"
            for index, name in enumerate(tools)
        ),
        *bodies,
    ]
    if answer is not None:
        lines.append(f"answer: %json {embedded_schema(answer)}")
    return "\n".join(lines)


def _rules(style: str, mark: Mark, *, has_new_mistral_marks: bool) -> CallRules:
    match style:
        case "llama3_json" | "llama4_json":
            return CallRules("", _text("; "), "", _json_opening("parameters"), _text("}"))
        case "mistral" if has_new_mistral_marks:
            tag, arguments = mark(TOOL_CALLS), mark("[ARGS]")
            return CallRules("", "", "", lambda name: _join(tag, _text(name), arguments), "")
        case "mistral":
            before = _join(mark(TOOL_CALLS), '" "? "["')
            return CallRules(
                before, _text(", "), _text("]"), _json_opening("arguments"), _text("}")
            )
        case "deepseek_v3" | "deepseek_v31":
            return _deepseek(mark, is_fenced=style == "deepseek_v3")
    opening, closing = mark("<tool_call>"), mark("</tool_call>")
    return CallRules(
        "",
        _text("\n"),
        "",
        lambda name: _join(opening, _text("\n"), _json_opening("arguments")(name)),
        _join(_text("}\n"), closing),
    )


def _deepseek(mark: Mark, *, is_fenced: bool) -> CallRules:
    begin, separator, end = mark(DEEPSEEK_CALL), mark(DEEPSEEK_SEPARATOR), mark(DEEPSEEK_CALL_END)
    if is_fenced:
        return CallRules(
            mark(DEEPSEEK_CALLS),
            _text("\n"),
            mark(DEEPSEEK_CALLS_END),
            lambda name: _join(begin, _text("function"), separator, _text(f"{name}\n```json\n")),
            _join(_text("\n```"), end),
        )
    return CallRules(
        mark(DEEPSEEK_CALLS),
        "",
        mark(DEEPSEEK_CALLS_END),
        lambda name: _join(begin, _text(name), separator),
        end,
    )


def _json_opening(key: str) -> Callable[[str], str]:
    return lambda name: _text(f'{{"name": {json.dumps(name)}, "{key}": ')


def _coder(tools: Mapping[str, Schema], mark: Mark) -> tuple[CallRules, list[str]]:
    opening, closing = mark("<tool_call>"), mark("</tool_call>")
    bodies = [r"text_value[lazy]: /(.|\n)*\n<\/parameter>\n/"]
    for index, schema in enumerate(tools.values()):
        properties = schema.get("properties", {})
        required = frozenset(schema.get("required", ()))
        parts = []
        for number, (key, part) in enumerate(properties.items()):
            rule = f"value_{index}_{number}"
            bodies.append(f"{rule}: {_coder_value(key, part, schema)}")
            parts.append(rule if key in required else f"{rule}?")
        body = _join(*parts) or '""'
        bodies.append(f"body_{index}: {body}")
    rules = CallRules(
        "",
        _text("\n"),
        "",
        lambda name: _join(opening, _text(f"\n<function={name}>\n")),
        _join(_text("</function>\n"), closing),
    )
    return rules, bodies


def _coder_value(key: str, schema: Any, whole: Schema) -> str:
    opening = _text(f"<parameter={key}>\n")
    if isinstance(schema, Mapping) and schema.get("type") == "string":
        choices = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(choices, list):
            words = " | ".join(_text(f"{choice}\n</parameter>\n") for choice in choices)
            return _join(opening, f"({words})")
        for keyword in ("pattern", "format", "minLength", "maxLength"):
            if keyword in schema:
                raise RequestError(
                    f"the text {key!r} has a {keyword!r}, which cannot be enforced in the way "
                    "this model writes arguments; leave it out",
                    parameter="tools",
                )
        return _join(opening, "text_value")
    definitions = {name: whole[name] for name in ("$defs", "definitions") if name in whole}
    part = {**definitions, **schema} if isinstance(schema, Mapping) else schema
    return _join(opening, f"%json {embedded_schema(part)}", _text("\n</parameter>\n"))


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)
