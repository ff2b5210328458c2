"""Fields that ask for answers of a certain shape: JSON, a grammar, a choice."""

from typing import Any

import msgspec

from banyan.gateway.errors import refuse
from banyan.gateway.wire.sampling_fields import SamplingFields


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape asked of the answer; only `text` is served."""

    type: str
    json_schema: Any = None


class StructureFields(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape of the answer, shared by chat and plain completions."""

    response_format: ResponseFormat | None = None

    def check(self) -> None:
        """Refuse shapes that are not served."""
        super().check()
        asked = self.response_format
        if asked is not None and asked.type != "text":
            raise refuse(
                f"response_format {asked.type!r} is not served by this version; use 'text'",
                parameter="response_format",
                code="unsupported_parameter",
            )
