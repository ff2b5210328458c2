"""Fields that say how a conversation becomes a prompt, shared by chat and tokenizing."""

from collections.abc import Mapping
from typing import Any, ClassVar

from banyan.gateway.wire.tools import ToolFields


class RenderingFields(ToolFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the chat template is used; all of them are vLLM's.

    `chat_template` is a template to use instead of the model's own, if the operator allows it;
    `chat_template_kwargs` are further names that a template may read.
    """

    not_served: ClassVar[Mapping[str, tuple[Any, ...]]] = {"echo": (False,)}

    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    add_special_tokens: bool | None = None
    documents: list[dict[str, str]] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    echo: bool | None = None
