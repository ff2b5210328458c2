"""The bodies of `POST /tokenize` and `POST /detokenize`, in vLLM's shapes."""

from typing import Any

from banyan.gateway.errors import refuse
from banyan.gateway.wire.body import RequestBody, TokenId
from banyan.gateway.wire.messages import ChatMessage, check_message
from banyan.gateway.wire.tools import Tool


class TokenizeRequest(RequestBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /tokenize`: a text in `prompt`, or a conversation in `messages`.

    `add_special_tokens` is true for a text and false for a conversation by default: a chat
    template writes its own.
    """

    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    tools: list[Tool] | None = None
    documents: list[dict[str, str]] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def check(self) -> None:
        """Refuse a body without a text, or with two."""
        super().check()
        if (self.prompt is None) == (self.messages is None):
            raise refuse(
                "send either prompt, a text, or messages, a conversation", parameter="prompt"
            )
        for index, message in enumerate(self.messages or ()):
            check_message(message, f"messages[{index}]")


class DetokenizeRequest(RequestBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /detokenize`."""

    model: str | None = None
    tokens: list[TokenId]
