"""From the fields of a request to the engine's `Structure`, checked before the engine hears of it.

Owns the names of the fields in errors; what can be enforced is decided in `engine.structure`.
"""

from collections.abc import Callable, Iterator
from functools import partial

from banyan.engine.structure.definition import Structure
from banyan.engine.structure.grammar_text import check_structure
from banyan.foundation.errors import RequestError
from banyan.gateway.errors import ApiError, refuse
from banyan.gateway.services import in_thread
from banyan.gateway.wire.structure import ResponseFormat, StructuredOutputs, StructureFields

_Asked = tuple[str, Callable[[], Structure]]


def structure_of(request: StructureFields) -> tuple[str, Structure] | None:
    """Return the one shape a request asks for and the field that asks for it.

    Raises:
        ApiError: 400, two fields ask for a shape, or one is malformed.
    """
    found = list(_all_asked(request))
    if len(found) > 1:
        names = " and ".join(field for field, _ in found)
        raise refuse(f"{names} each ask for a shape of the answer; send one", parameter=found[1][0])
    if not found:
        return None
    field, make = found[0]
    try:
        return field, make()
    except RequestError as error:
        raise _refusal(error, field) from error


async def checked_structure(request: StructureFields) -> Structure | None:
    """Return the shape a request asks for, compiled once in a thread to see that it can be kept.

    Raises:
        ApiError: 400, it cannot be used; names the field and the place in it.
    """
    found = structure_of(request)
    if found is None:
        return None
    field, structure = found
    await require_valid(structure, field=field)
    return structure


async def require_valid(structure: Structure, *, field: str) -> None:
    """Compile a structure in a thread.

    Raises:
        ApiError: 400, it cannot be used; names the field and the place in it.
    """
    try:
        await in_thread(lambda: check_structure(structure))
    except RequestError as error:
        raise _refusal(error, field) from error


def _refusal(error: RequestError, field: str) -> ApiError:
    return refuse(f"{field}: {error}", parameter=field, code="invalid_structure")


def _all_asked(request: StructureFields) -> Iterator[_Asked]:
    if request.response_format is not None:
        yield from _asked_by_format(request.response_format)
    if request.structured_outputs is not None:
        yield from _asked_by_outputs(request.structured_outputs)
    if request.guided_json is not None:
        yield "guided_json", partial(Structure.json_schema, request.guided_json)
    if request.guided_regex is not None:
        yield "guided_regex", partial(Structure.regex, request.guided_regex)
    if request.guided_choice is not None:
        yield "guided_choice", partial(Structure.choice, request.guided_choice)
    if request.guided_grammar is not None:
        yield "guided_grammar", partial(Structure.grammar, request.guided_grammar)
    if request.guided_json_object:
        yield "guided_json_object", Structure.json_object
    if request.structural_tag is not None:
        yield "structural_tag", _tag(request.structural_tag)


def _asked_by_format(asked: ResponseFormat) -> Iterator[_Asked]:
    if asked.type == "json_object":
        yield "response_format", Structure.json_object
    elif asked.type == "json_schema":
        assert asked.json_schema is not None
        assert asked.json_schema.schema is not None
        yield (
            "response_format.json_schema.schema",
            partial(Structure.json_schema, asked.json_schema.schema),
        )
    elif asked.type == "structural_tag":
        tag = {"structures": asked.structures, "triggers": asked.triggers}
        yield "response_format", partial(Structure.structural_tag, tag)


def _asked_by_outputs(asked: StructuredOutputs) -> Iterator[_Asked]:
    spaces = not asked.disable_any_whitespace
    of = "structured_outputs"
    if asked.json is not None:
        yield f"{of}.json", partial(Structure.json_schema, asked.json, any_whitespace=spaces)
    if asked.regex is not None:
        yield f"{of}.regex", partial(Structure.regex, asked.regex)
    if asked.choice is not None:
        yield f"{of}.choice", partial(Structure.choice, asked.choice)
    if asked.grammar is not None:
        yield f"{of}.grammar", partial(Structure.grammar, asked.grammar)
    if asked.json_object:
        yield f"{of}.json_object", partial(Structure.json_object, any_whitespace=spaces)
    if asked.structural_tag is not None:
        yield f"{of}.structural_tag", _tag(asked.structural_tag)


def _tag(text: str) -> Callable[[], Structure]:
    return partial(Structure, kind="structural_tag", text=text)
