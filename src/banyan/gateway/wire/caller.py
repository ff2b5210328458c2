"""Fields that say who asks and how urgent it is; they never change which tokens come out."""

from typing import Any

from banyan.gateway.wire.body import RequestBody, SmallInteger

# Accepted without effect, wherever they are fields; the documentation lists them from here.
NO_EFFECT = frozenset(
    {
        "store",
        "metadata",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "spaces_between_special_tokens",
        "guided_decoding_backend",
    }
)


class CallerFields(RequestBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What chat, completions and responses share about their caller.

    `priority` and `cache_salt` are vLLM's: a lower priority is served earlier, and requests share
    cached prompts only with requests of the same salt. `deadline_seconds` is ours: an answer that
    begins later than this after the request's arrival is worthless to its reader.
    """

    user: str | None = None
    safety_identifier: str | None = None
    priority: SmallInteger | None = None
    cache_salt: str | None = None
    deadline_seconds: float | None = None
    # Accepted without effect.
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
