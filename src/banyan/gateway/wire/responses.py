"""The body of `POST /v1/responses`."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from banyan.gateway.errors import refuse
from banyan.gateway.wire.body import Seed, SmallInteger
from banyan.gateway.wire.caller import CallerFields

INCLUDABLE = ("message.output_text.logprobs", "reasoning.encrypted_content")
_EFFECTIVE_FORMATS = ("text", "json_object", "json_schema")


class InputItem(msgspec.Struct, frozen=True, kw_only=True):
    """One item of the input: a message, a call of a tool, or its result.

    Fields it does not know are passed over: an SDK sends back former output with all it holds.
    """

    type: str = "message"
    role: str | None = None
    content: str | list[dict[str, Any]] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[dict[str, Any]] | None = None


class TextFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape asked of the text."""

    type: str
    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked of the text; `verbosity` has no effect."""

    format: TextFormat | None = None
    verbosity: str | None = None


class ReasoningOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much the model is to think; summaries are not made."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ResponseStreamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Accepted without effect."""

    include_obfuscation: bool | None = None


class ResponsesRequest(CallerFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/responses`.

    `top_k`, `min_p`, `repetition_penalty`, `seed`, `stop`, `ignore_eos` and
    `chat_template_kwargs` are not OpenAI's; they mean what they mean in a chat request.
    """

    not_served: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "background": (False,),
        "conversation": (),
        "prompt": (),
        "max_tool_calls": (),
        "context_management": ([],),
        "truncation": ("disabled",),
    }

    model: str
    input: str | list[InputItem]
    instructions: str | None = None
    previous_response_id: str | None = None
    max_output_tokens: SmallInteger | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: SmallInteger | None = None
    include: list[str] | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    top_k: SmallInteger | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: Seed | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None
    max_tool_calls: SmallInteger | None = None
    context_management: Any = None
    truncation: str | None = None

    def check(self) -> None:
        """Refuse what types alone cannot express."""
        super().check()
        for index, wish in enumerate(self.include or ()):
            if wish not in INCLUDABLE:
                raise refuse(
                    f"include[{index}] is {wish!r}; only {' and '.join(INCLUDABLE)} are served",
                    parameter=f"include[{index}]",
                    code="unsupported_parameter",
                )
        shape = None if self.text is None else self.text.format
        if shape is not None and shape.type not in _EFFECTIVE_FORMATS:
            raise refuse(
                f"text.format.type is {shape.type!r}; use one of {', '.join(_EFFECTIVE_FORMATS)}",
                parameter="text.format.type",
            )

    @property
    def wants_logprobs(self) -> bool:
        """True when the text is to come with log probabilities."""
        return self.top_logprobs is not None or INCLUDABLE[0] in (self.include or ())
