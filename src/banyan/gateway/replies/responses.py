"""Replies of `/v1/responses`: the object, its items, and the events of its stream."""

from typing import Any, TypeAlias

import msgspec

from banyan.gateway.replies.chat import TokenLogprob


class OutputText(msgspec.Struct, frozen=True, kw_only=True):
    """Text of a message."""

    type: str = "output_text"
    text: str
    annotations: list[dict[str, Any]] = []
    logprobs: list[TokenLogprob] = []


class OutputMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says."""

    id: str
    type: str = "message"
    status: str = "completed"
    role: str = "assistant"
    content: list[OutputText]


class ReasoningText(msgspec.Struct, frozen=True, kw_only=True):
    """Text of a thought."""

    type: str = "reasoning_text"
    text: str


class ReasoningItem(msgspec.Struct, frozen=True, kw_only=True):
    """What the model thinks; there is never a summary."""

    id: str
    type: str = "reasoning"
    summary: list[dict[str, Any]] = []
    content: list[ReasoningText]
    status: str = "completed"


class FunctionCallItem(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that the model calls."""

    id: str
    type: str = "function_call"
    status: str = "completed"
    call_id: str
    name: str
    arguments: str


OutputItem: TypeAlias = OutputMessage | ReasoningItem | FunctionCallItem


class InputTokensDetails(msgspec.Struct, frozen=True):
    """How much of the input was already known to the server."""

    cached_tokens: int = 0


class OutputTokensDetails(msgspec.Struct, frozen=True):
    """How much of the output was thought; it is not counted apart."""

    reasoning_tokens: int = 0


class ResponseUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens read and written."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int


class ResponseProblem(msgspec.Struct, frozen=True):
    """Why a response failed."""

    code: str
    message: str


class IncompleteDetails(msgspec.Struct, frozen=True):
    """Why a response ended early."""

    reason: str


class ResponseObject(msgspec.Struct, frozen=True, kw_only=True):
    """The reply of `POST /v1/responses` and `GET /v1/responses/{response_id}`."""

    id: str
    object: str = "response"
    created_at: int
    completed_at: int | None = None
    status: str
    background: bool = False
    error: ResponseProblem | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    model: str
    output: list[dict[str, Any]] = []
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    reasoning: dict[str, Any]
    service_tier: str = "default"
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: Any = "auto"
    tools: list[dict[str, Any]] = []
    top_logprobs: int = 0
    top_p: float
    truncation: str = "disabled"
    usage: ResponseUsage | None = None
    user: str | None = None
    metadata: dict[str, Any] = {}


class DeletedResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The reply of `DELETE /v1/responses/{response_id}`."""

    id: str
    object: str = "response"
    deleted: bool = True


class InputItemList(msgspec.Struct, frozen=True, kw_only=True):
    """The reply of `GET /v1/responses/{response_id}/input_items`."""

    object: str = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool = False
