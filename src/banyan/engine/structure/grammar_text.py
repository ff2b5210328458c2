"""From a `Structure` to the text that llguidance compiles, and from its errors to a place.

The only other module that knows llguidance is `guidance`. No NumPy here: the API process checks
structures with this module before the engine hears of them.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from banyan.engine.structure.definition import Structure
from banyan.engine.structure.schema_check import SchemaError, check_schema, children
from banyan.engine.structure.schema_text import WHITESPACE, plain_schema
from banyan.engine.structure.structural_tag import structural_tag_grammar
from banyan.foundation.errors import RequestError

if TYPE_CHECKING:
    from llguidance import LLParserLimits, LLTokenizer

# Where an error is looked for: each try compiles a part of the schema.
_MOST_TRIES = 200


def grammar_text(structure: Structure) -> str:
    """Write a structure in llguidance's own notation.

    Raises:
        RequestError: the text is malformed, or asks for what cannot be enforced; says where.
    """
    from llguidance import LLMatcher  # noqa: PLC0415  (half of the import budget of `banyan`)

    match structure.kind:
        case "json_object":
            return _schema_text({"type": "object"}, structure)
        case "json_schema":
            return _schema_text(_read_schema(structure.text), structure)
        case "regex":
            return LLMatcher.grammar_from_regex(structure.text)
        case "grammar":
            return LLMatcher.grammar_from_lark(_lark(structure.text))
        case "choice":
            alternatives = " | ".join(map(_literal, json.loads(structure.text)))
            return LLMatcher.grammar_from_lark(f"start: {alternatives}")
        case "structural_tag":
            return LLMatcher.grammar_from_lark(structural_tag_grammar(structure.text))


@lru_cache(maxsize=256)
def check_structure(structure: Structure) -> None:
    """Compile a structure for single bytes, to refuse it early; remembers those that pass.

    Raises:
        RequestError: it cannot be used; names the place where there is one.
    """
    from llguidance import LLMatcher  # noqa: PLC0415

    matcher = LLMatcher(_byte_tokenizer(), grammar_text(structure), limits=parser_limits())
    # The first mask shows what is too complex: compiling alone puts most of the work off.
    if not matcher.is_error():
        matcher.compute_bitmask()
    if matcher.is_error():
        raise explain(structure, matcher.get_error())


@lru_cache(maxsize=1)
def _byte_tokenizer() -> "LLTokenizer":
    from llguidance import LLTokenizer, TokenizerWrapper  # noqa: PLC0415

    return LLTokenizer(TokenizerWrapper(_Bytes()))


class _Bytes:
    """A vocabulary of single bytes, in the shape that llguidance asks for."""

    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(256)), b"<end>")
    special_token_ids = (256,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def _problem(text: str) -> str | None:
    """Say why llguidance refuses a grammar, or None."""
    from llguidance import LLMatcher  # noqa: PLC0415

    is_error, messages = LLMatcher.validate_grammar_with_warnings(text, limits=parser_limits())
    return messages[0] if is_error else None


def parser_limits() -> "LLParserLimits":
    """Bounds on the work of one compilation (about 20 ms of fuel) and of one mask (15 ms)."""
    from llguidance import LLParserLimits  # noqa: PLC0415

    return LLParserLimits(
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=200_000,
        step_max_items=50_000,
        max_lexer_states=50_000,
        max_grammar_size=200_000,
        verbose_errors=False,
    )


def explain(structure: Structure, problem: str) -> RequestError:
    """Turn llguidance's words into an error that names the place."""
    problem = " ".join(problem.split())
    if "coerce_one_of" in problem:
        problem = "the branches of oneOf may overlap, and only one may hold; use anyOf"
    if problem.startswith("NoExtension"):
        problem = "no text can satisfy it"
    if structure.kind == "json_schema":
        return SchemaError(_place_of(_read_schema(structure.text), structure), problem)
    return RequestError(f"the {structure.kind} cannot be used: {problem}", parameter="structure")


def _schema_text(schema: Any, structure: Structure) -> str:
    from llguidance import LLMatcher  # noqa: PLC0415

    options: dict[str, Any] = {"lenient": False, "coerce_one_of": False}
    if structure.any_whitespace:
        options["whitespace_pattern"] = WHITESPACE
    else:
        options["whitespace_flexible"] = False
    text = json.dumps(plain_schema(schema), ensure_ascii=False)
    try:
        return LLMatcher.grammar_from_json_schema(text, overrides=options)  # type: ignore[arg-type]
    except ValueError as error:  # numbers that no double holds
        raise SchemaError("", f"it cannot be used: {error}") from None


def _read_schema(text: str) -> Any:
    try:
        schema = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise SchemaError(
            f"line {error.lineno} column {error.colno}", f"it is no JSON: {error.msg}"
        ) from None
    except RecursionError:
        raise SchemaError("", "it is nested too deeply") from None
    except SchemaError:
        raise
    except ValueError as error:  # whole numbers of thousands of digits
        raise SchemaError("", f"it is no JSON that can be read: {error}") from None
    check_schema(schema)
    return schema


def _refuse_constant(name: str) -> None:
    raise SchemaError("", f"{name} is no JSON number")


def _place_of(schema: Any, structure: Structure) -> str:
    """The pointer to the innermost schema that is refused even when it stands alone."""
    pointer, part, tries = "", schema, 0
    definitions = {
        key: schema[key]
        for key in ("$defs", "definitions")
        if isinstance(schema, Mapping) and key in schema
    }
    while isinstance(part, Mapping):
        for step, child in children(part):
            tries += 1
            if tries > _MOST_TRIES:
                return pointer
            alone = {**definitions, **child} if isinstance(child, Mapping) else child
            if _refuses(alone, structure):
                pointer, part = f"{pointer}/{step}", child
                break
        else:
            return pointer
    return pointer


def _refuses(schema: Any, structure: Structure) -> bool:
    return _problem(_schema_text(schema, structure)) is not None


def _lark(text: str) -> str:
    """Take Lark as it is and rewrite GBNF, which is known by its `::=`.

    Raises:
        RequestError: the GBNF is malformed, with the line.
    """
    from llguidance.gbnf_to_lark import any_to_lark  # noqa: PLC0415

    try:
        return str(any_to_lark(text))
    except Exception as error:  # a parser in Python: malformed text ends it in several ways
        raise RequestError(
            f"the grammar cannot be read as GBNF: {' '.join(str(error).split())}",
            parameter="structure",
        ) from error


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
