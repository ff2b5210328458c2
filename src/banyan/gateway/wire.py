"""Requests as OpenAI's API spells them, parsed strictly.

Owns the request types and the words of their errors. Never computes anything. Called by the
routes with the raw body; `GET /openapi.json` is made from the same types.

Three kinds of fields: those we serve; those of OpenAI that are harmless here and accepted
without effect (`user`, `store`, ...); and those we know but do not serve yet, refused by name.
Anything else is an unknown field and is refused too: a misspelt option must not pass silently.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from banyan.gateway.errors import ApiError, refuse

Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
SmallInteger = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]

ROLES = ("system", "developer", "user", "assistant")


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a stream carries besides text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ContentPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part of a message; only `text` parts are served."""

    type: str
    text: str | None = None
    image_url: Any = None
    input_audio: Any = None
    file: Any = None
    refusal: str | None = None


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One turn. The fields after `name` are what an SDK sends back with a former answer."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    annotations: Any = None
    audio: Any = None
    function_call: Any = None
    tool_calls: Any = None
    tool_call_id: Any = None


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape asked of the answer; only `text` is served."""

    type: str
    json_schema: Any = None


class GenerationFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields that chat and plain completions share.

    `top_k`, `min_p`, `repetition_penalty`, `ignore_eos`, `min_tokens` and `stop_token_ids` are
    not OpenAI's; they have vLLM's names and meaning. `None` means the model's own default.
    """

    model: str
    max_tokens: SmallInteger | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: SmallInteger | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: Seed | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[TokenId] | None = None
    ignore_eos: bool | None = None
    min_tokens: SmallInteger | None = None
    n: SmallInteger | None = None
    logit_bias: dict[str, float] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Accepted without effect.
    user: str | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None


class ChatRequest(GenerationFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/chat/completions`."""

    messages: list[ChatMessage]
    max_completion_tokens: SmallInteger | None = None
    logprobs: bool | None = None
    top_logprobs: SmallInteger | None = None
    response_format: ResponseFormat | None = None
    parallel_tool_calls: bool | None = None
    # Known, not served yet.
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    modalities: Any = None
    audio: Any = None
    prediction: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None
    web_search_options: Any = None


class CompletionRequest(GenerationFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/completions`; a prompt is text, token ids, or a list of either."""

    prompt: str | list[str | TokenId | list[TokenId]]
    logprobs: SmallInteger | None = None
    # Known, not served yet.
    echo: bool | None = None
    suffix: str | None = None
    best_of: SmallInteger | None = None


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/embeddings`; the input is like a completion's prompt."""

    model: str
    input: str | list[str | TokenId | list[TokenId]]
    encoding_format: str | None = None
    user: str | None = None
    # Known, not served yet.
    dimensions: SmallInteger | None = None


# Longer names are no misspelt field; comparing them would take seconds.
_LONGEST_GUESS = 40

Body = TypeVar("Body", ChatRequest, CompletionRequest, EmbeddingRequest)

# Values of known fields that ask for nothing and therefore pass.
_HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "echo": (False,),
    "suffix": ("",),
    "best_of": (1,),
}
_NOT_SERVED: Mapping[type[msgspec.Struct], tuple[str, ...]] = {
    ChatRequest: (
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "modalities",
        "audio",
        "prediction",
        "reasoning_effort",
        "verbosity",
        "web_search_options",
    ),
    CompletionRequest: ("echo", "suffix", "best_of"),
    EmbeddingRequest: ("dimensions",),
}


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
    if isinstance(request, ChatRequest):
        _check_chat(request)
    return request


def message_text(message: ChatMessage) -> str:
    """Return a message's text; several parts are joined by line breaks."""
    if message.content is None:
        return ""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text or "" for part in message.content)


def _explain(problem: str, kind: type[msgspec.Struct]) -> ApiError:
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


def _suggestion(place: str, field: str, kind: type[msgspec.Struct]) -> str:
    if place or len(field) > _LONGEST_GUESS:
        return ""
    close = difflib.get_close_matches(field, kind.__struct_fields__, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _refuse_what_is_not_served(request: msgspec.Struct) -> None:
    for field in _NOT_SERVED[type(request)]:
        value = getattr(request, field)
        if value is not None and value not in _HARMLESS.get(field, ()):
            raise refuse(
                f"{field} is not served by this version; leave it out",
                parameter=field,
                code="unsupported_parameter",
            )


def _check_chat(request: ChatRequest) -> None:
    if not request.messages:
        raise refuse("messages is empty; send at least one", parameter="messages")
    asked = request.response_format
    if asked is not None and asked.type != "text":
        raise refuse(
            f"response_format {asked.type!r} is not served by this version; use 'text'",
            parameter="response_format",
            code="unsupported_parameter",
        )
    for index, message in enumerate(request.messages):
        _check_message(message, f"messages[{index}]")


def _check_message(message: ChatMessage, place: str) -> None:
    if message.role not in ROLES:
        raise refuse(
            f"{place}.role is {message.role!r}; it must be one of {', '.join(ROLES)}",
            parameter=f"{place}.role",
        )
    if message.tool_calls or message.function_call or message.tool_call_id or message.audio:
        raise refuse(
            f"{place} carries a tool call or audio, which this version does not serve",
            parameter=place,
            code="unsupported_parameter",
        )
    if message.content is None and message.role != "assistant":
        raise refuse(f"{place}.content is missing; it is required", parameter=f"{place}.content")
    if isinstance(message.content, list):
        for index, part in enumerate(message.content):
            if part.type != "text" or part.text is None:
                raise refuse(
                    f"{place}.content[{index}] is a part of type {part.type!r}; "
                    "only parts {'type': 'text', 'text': ...} are served",
                    parameter=f"{place}.content[{index}]",
                    code="unsupported_parameter",
                )
