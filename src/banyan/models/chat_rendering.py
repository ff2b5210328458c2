"""How a conversation becomes a prompt: what a caller chooses besides its messages. Plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from banyan.foundation.errors import RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRendering:
    """Choices for one conversation; the names are those of transformers and vLLM.

    Attributes:
        add_generation_prompt: end with the opening of the model's own turn.
        continue_final_message: leave the last message open, so that the model goes on with it.
        tools: JSON schemas of functions the model may call.
        documents: texts for templates that know retrieval.
        variables: further names a template may read, such as `enable_thinking`.
        template: source of a template to use instead of the model's own.
        add_special_tokens: let the tokenizer add its own special tokens to the rendered text.
    """

    add_generation_prompt: bool = True
    continue_final_message: bool = False
    tools: Sequence[Mapping[str, Any]] | None = None
    documents: Sequence[Mapping[str, Any]] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None
    add_special_tokens: bool = False

    def __post_init__(self) -> None:
        if self.continue_final_message and self.add_generation_prompt:
            raise RequestError(
                "continue_final_message=true goes on with the last message and "
                "add_generation_prompt=true opens a new one; set add_generation_prompt to false",
                parameter="continue_final_message",
            )


ORDINARY_RENDERING = ChatRendering()
"""The model's own template, ready for the model's answer."""
