"""The body of `POST /v1/chat/completions`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from banyan.gateway.errors import refuse
from banyan.gateway.wire.body import SmallInteger
from banyan.gateway.wire.messages import ChatMessage, check_message, check_tool_results
from banyan.gateway.wire.rendering import RenderingFields


class ChatRequest(RenderingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/chat/completions`."""

    not_served: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "modalities": (["text"],),
        "audio": (),
        "prediction": (),
        "verbosity": (),
        "web_search_options": (),
        "media_io_kwargs": ({},),
        "mm_processor_kwargs": ({},),
    }

    messages: list[ChatMessage]
    max_completion_tokens: SmallInteger | None = None
    logprobs: bool | None = None
    top_logprobs: SmallInteger | None = None
    modalities: Any = None
    audio: Any = None
    prediction: Any = None
    verbosity: Any = None
    web_search_options: Any = None
    media_io_kwargs: Any = None
    mm_processor_kwargs: Any = None

    def check(self) -> None:
        """Refuse conversations that are empty or hold turns that are not served."""
        # Before the groups of fields: what a conversation lacks is said first.
        if not self.messages:
            raise refuse("messages is empty; send at least one", parameter="messages")
        super().check()
        for index, message in enumerate(self.messages):
            check_message(message, f"messages[{index}]")
        check_tool_results(self.messages)
