"""Who asks: from the fields and headers of a request to the engine's `RequestContext`.

Owns how callers are told apart. Never lets a key through: the engine sees a digest only.
"""

from dataclasses import replace
from hashlib import sha256

from starlette.requests import Request

from banyan.engine.request_context import RequestContext
from banyan.gateway.wire.caller import CallerFields

_DIGEST_CHARACTERS = 32


def request_context(
    asked: CallerFields, request: Request, *, adapter: str | None = None
) -> RequestContext:
    """Read who asks and how urgently.

    Raises:
        RequestError: a value is out of its range.
    """
    key = _key(request)
    context = RequestContext(
        priority=asked.priority or 0,
        deadline_seconds=asked.deadline_seconds,
        caller=caller_name(key, asked.user or asked.safety_identifier or ""),
        cache_salt=asked.cache_salt or "",
        adapter=adapter,
    )
    # Users of one key share cached prompts, such as the instructions they all send. A salt parts
    # them; whoever guesses it still needs the key.
    return replace(context, cache_salt=caller_name(key, context.cache_salt))


def caller_of_key(request: Request) -> str:
    """Name whoever holds the request's API key, whichever user it is for."""
    return caller_name(_key(request), "")


def _key(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ").strip()


def caller_name(key: str, user: str) -> str:
    """Name a caller by API key and user, so that neither can be read back; "" for nobody."""
    if not key and not user:
        return ""
    # The line break keeps ("a", "bc") and ("ab", "c") apart: no header holds one.
    return sha256(f"{key}\n{user}".encode(errors="replace")).hexdigest()[:_DIGEST_CHARACTERS]
