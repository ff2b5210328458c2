"""The body of `POST /v1/completions`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from banyan.gateway.wire.body import SmallInteger, TokenId
from banyan.gateway.wire.structure import StructureFields


class CompletionRequest(StructureFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/completions`; a prompt is text, token ids, or a list of either."""

    not_served: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "echo": (False,),
        "suffix": ("",),
        "best_of": (1,),
    }

    prompt: str | list[str | TokenId | list[TokenId]]
    logprobs: SmallInteger | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: SmallInteger | None = None
