"""From the bytes of a body to a request, or to one sentence saying why not.

Owns the words for what is wrong with a body, whatever its kind. Called by every POST route.
"""

import difflib
import re
from typing import TypeVar

import msgspec

from banyan.gateway.errors import ApiError, refuse
from banyan.gateway.wire.body import RequestBody, fields_not_served

# Longer names are no misspelt field; comparing them would take seconds.
_LONGEST_GUESS = 40

Body = TypeVar("Body", bound=RequestBody)


def parse_request(body: bytes, kind: type[Body]) -> Body:
    """Read a JSON body as a request of `kind`.

    Raises:
        ApiError: 400, naming the field at fault, its value's type and what was expected.
    """
    try:
        request = msgspec.json.decode(body, type=kind)
    except UnicodeDecodeError as error:
        raise refuse(
            f"the body is not valid UTF-8 ({error.reason}); encode it as UTF-8",
            code="invalid_utf8",
        ) from None
    except msgspec.ValidationError as error:
        raise _explain(str(error), kind) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise refuse(f"the body is not valid JSON: {error}", code="invalid_json") from None
    _refuse_what_is_not_served(request)
    request.check()
    return request


def _explain(problem: str, kind: type[RequestBody]) -> ApiError:
    """Turn a decoder's sentence into one for the caller, with the field's name."""
    problem = problem.replace("`", "")
    what, _, path = problem.partition(" - at $")
    # A list's items and an object's values come as [0] and [...]; a leading dot goes.
    place = path.removeprefix(".")
    if match := re.fullmatch(r"Object contains unknown field (.*)", what, re.DOTALL):
        field = _join(place, match[1])
        return refuse(
            f"{field} is not a field of this request{_suggestion(place, match[1], kind)}; "
            "GET /openapi.json lists the fields",
            parameter=field,
            code="unknown_field",
        )
    if match := re.fullmatch(r"Object missing required field (.*)", what, re.DOTALL):
        field = _join(place, match[1])
        return refuse(f"{field} is missing; it is required", parameter=field, code="missing_field")
    what = what.replace(" | null", "")
    what = what[:1].lower() + what[1:]
    return refuse(f"{place or 'the body'}: {what}", parameter=place or None, code="invalid_type")


def _join(place: str, field: str) -> str:
    return f"{place}.{field}" if place else field


def _suggestion(place: str, field: str, kind: type[RequestBody]) -> str:
    if place or len(field) > _LONGEST_GUESS:
        return ""
    close = difflib.get_close_matches(field, kind.__struct_fields__, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _refuse_what_is_not_served(request: RequestBody) -> None:
    for field, harmless in fields_not_served(type(request)):
        value = getattr(request, field)
        if value is not None and value not in harmless:
            raise refuse(
                f"{field} is not served by this version; leave it out",
                parameter=field,
                code="unsupported_parameter",
            )
