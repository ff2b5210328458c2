"""The parts a message may consist of: text and images."""

from collections.abc import Mapping
from typing import Any

import msgspec

from banyan.gateway.errors import refuse

_IMAGE_FIELDS = ("url", "detail")
_DETAILS = (None, "auto", "low", "high")


class ContentPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part of a message; `text` and `image_url` parts are served.

    `image_url` is `{"url": "data:..."}` or the URL alone. Its `detail` has no effect: the model
    decides how closely it looks.
    """

    type: str
    text: str | None = None
    image_url: Any = None
    input_audio: Any = None
    file: Any = None
    refusal: str | None = None


def check_part(part: ContentPart, place: str, *, role: str) -> None:
    """Refuse a part that is not served; `place` names it, such as `messages[0].content[1]`."""
    if part.type == "image_url" and part.image_url is not None and part.text is None:
        _check_image(part.image_url, place, role)
    elif part.type != "text" or part.text is None or part.image_url is not None:
        raise refuse(
            f"{place} is a part of type {part.type!r}; only parts {{'type': 'text', 'text': ...}} "
            "and {'type': 'image_url', 'image_url': {'url': ...}} are served",
            parameter=place,
            code="unsupported_parameter",
        )


def _check_image(given: Any, place: str, role: str) -> None:
    if role != "user":
        raise refuse(
            f"{place} is an image in a message of the role {role!r}; send images as 'user'",
            parameter=place,
            code="unsupported_parameter",
        )
    fields = {"url": given} if isinstance(given, str) else given
    if not isinstance(fields, Mapping) or not isinstance(fields.get("url"), str):
        raise refuse(
            f"{place}.image_url holds no url; send {{'url': 'data:image/png;base64,...'}}",
            parameter=f"{place}.image_url",
            code="invalid_type",
        )
    for name in fields:
        if name not in _IMAGE_FIELDS:
            raise refuse(
                f"{place}.image_url.{name} is not a field of an image; known are url and detail",
                parameter=f"{place}.image_url.{name}",
                code="unknown_field",
            )
    if fields.get("detail") not in _DETAILS:
        raise refuse(
            f"{place}.image_url.detail is {fields['detail']!r}; use auto, low or high",
            parameter=f"{place}.image_url.detail",
        )
