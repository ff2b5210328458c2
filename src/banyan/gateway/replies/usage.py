"""Tokens read and written for a request."""

import msgspec


class PromptTokensDetails(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the prompt was already known to the server."""

    cached_tokens: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens read and written for one request, over all of its choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None
