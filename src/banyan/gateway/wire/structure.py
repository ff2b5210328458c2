"""Fields that ask for answers of a certain shape: JSON, a grammar, a choice."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from banyan.gateway.errors import refuse
from banyan.gateway.wire.sampling_fields import SamplingFields

RESPONSE_FORMATS = ("text", "json_object", "json_schema", "structural_tag")


class JsonSchemaFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named schema, as OpenAI sends it; it is enforced whether `strict` is given or not."""

    name: str = ""
    description: str | None = None
    schema: dict[str, Any] | bool | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape asked of the answer; `structural_tag` is vLLM's."""

    type: str
    json_schema: JsonSchemaFormat | None = None
    structures: list[dict[str, Any]] | None = None
    triggers: list[str] | None = None


class StructuredOutputs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """vLLM's `structured_outputs`: one shape, and how JSON may be written."""

    json: str | dict[str, Any] | bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | None = None
    disable_any_whitespace: bool | None = None


class StructureFields(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape of the answer, shared by chat and plain completions.

    All but `response_format` are vLLM's; `guided_decoding_backend` is accepted without effect.
    """

    not_served: ClassVar[Mapping[str, tuple[Any, ...]]] = {"guided_whitespace_pattern": ()}

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: str | dict[str, Any] | bool | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    guided_json_object: bool | None = None
    structural_tag: str | None = None
    guided_decoding_backend: str | None = None
    guided_whitespace_pattern: str | None = None

    def check(self) -> None:
        """Refuse formats that are not served or not whole."""
        super().check()
        asked = self.response_format
        if asked is None:
            return
        if asked.type not in RESPONSE_FORMATS:
            raise refuse(
                f"response_format.type is {asked.type!r}; use one of {', '.join(RESPONSE_FORMATS)}",
                parameter="response_format.type",
            )
        if asked.type == "json_schema" and (
            asked.json_schema is None or asked.json_schema.schema is None
        ):
            raise refuse(
                "response_format.json_schema.schema is missing; it is required",
                parameter="response_format.json_schema.schema",
                code="missing_field",
            )
