"""The parts a message may consist of: text, images, sound."""

from typing import Any

import msgspec

from banyan.gateway.errors import refuse


class ContentPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part of a message; only `text` parts are served."""

    type: str
    text: str | None = None
    image_url: Any = None
    input_audio: Any = None
    file: Any = None
    refusal: str | None = None


def check_part(part: ContentPart, place: str) -> None:
    """Refuse a part that is not served; `place` names it, such as `messages[0].content[1]`."""
    if part.type != "text" or part.text is None:
        raise refuse(
            f"{place} is a part of type {part.type!r}; "
            "only parts {'type': 'text', 'text': ...} are served",
            parameter=place,
            code="unsupported_parameter",
        )
