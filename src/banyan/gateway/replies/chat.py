"""Replies of `POST /v1/chat/completions`, whole and streamed."""

import msgspec

from banyan.gateway.replies.prompt_logprobs import PromptLogprobs
from banyan.gateway.replies.usage import Usage


class TopLogprob(msgspec.Struct, frozen=True):
    """One of the likeliest tokens at a place; `bytes` is its UTF-8."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(msgspec.Struct, frozen=True):
    """The chosen token at a place and the likeliest ones."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct, frozen=True):
    """Log-probabilities of a chat choice's tokens."""

    content: list[TokenLogprob]
    refusal: None = None


class CalledFunction(msgspec.Struct, frozen=True):
    """The function of a call; `arguments` is the text of a JSON object."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True):
    """A call of a tool."""

    id: str
    function: CalledFunction
    type: str = "function"


class AnswerMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The model's turn; reasoning has the names of DeepSeek, vLLM and others."""

    role: str = msgspec.field(default_factory=lambda: "assistant")
    content: str | None
    refusal: str | None = msgspec.field(default_factory=lambda: None)
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] = []


class ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One of the `n` answers; the fields after `finish_reason` are vLLM's."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """The reply of `POST /v1/chat/completions`; what follows `system_fingerprint` is vLLM's."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str | None = None
    prompt_logprobs: PromptLogprobs | msgspec.UnsetType = msgspec.UNSET
    prompt_token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET


class DeltaFunction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """More of a call's function."""

    name: str | None = None
    arguments: str | None = None


class DeltaToolCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """More of a call; the first has its id, type and name."""

    index: int
    id: str | None = None
    type: str | None = None
    function: DeltaFunction


class ChatDelta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a chunk adds to the answer."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[DeltaToolCall] | None = None


class ChatChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer's part of a chunk."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None | msgspec.UnsetType = msgspec.UNSET
    token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET


class ChatChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a chat stream; `usage` is sent only when the caller asked for it."""

    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None | msgspec.UnsetType = msgspec.UNSET
    system_fingerprint: str | None = None
    prompt_token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET
