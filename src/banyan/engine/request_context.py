"""Who asks, and how urgently: what a request carries besides its tokens and options.

Nothing here changes which tokens come out, except that `adapter` names the weights; what shapes the
answer is in `sampling.SamplingOptions`. Plain, validated data.
"""

import math
from dataclasses import dataclass

from banyan.foundation.errors import RequestError

MAX_PRIORITY = 2**31 - 1
MAX_NAME_CHARACTERS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """The circumstances of one request; a wrong value raises `RequestError` naming the limit.

    Attributes:
        priority: lower is served first, as in vLLM; equals are served in order of arrival.
        deadline_seconds: an answer that begins later than this after arrival is worthless; None
            waits as long as it takes.
        caller: whoever is served fairly beside others; "" is one caller like any other.
        cache_salt: requests share cached prompts only with requests of the same salt.
        adapter: name of a loaded adapter, None for the base model.
    """

    priority: int = 0
    deadline_seconds: float | None = None
    caller: str = ""
    cache_salt: str = ""
    adapter: str | None = None

    def __post_init__(self) -> None:
        if not -MAX_PRIORITY <= self.priority <= MAX_PRIORITY:
            raise RequestError(
                f"priority={self.priority} cannot be used; give a whole number from "
                f"{-MAX_PRIORITY} to {MAX_PRIORITY}",
                parameter="priority",
            )
        deadline = self.deadline_seconds
        if deadline is not None and not 0 < deadline < math.inf:
            raise RequestError(
                f"deadline_seconds={deadline} cannot be used; give a number above 0",
                parameter="deadline_seconds",
            )
        for name in ("caller", "cache_salt", "adapter"):
            value = getattr(self, name)
            if value is not None and len(value) > MAX_NAME_CHARACTERS:
                raise RequestError(
                    f"{name} has {len(value)} characters; at most {MAX_NAME_CHARACTERS} are "
                    "allowed",
                    parameter=name,
                )


ORDINARY = RequestContext()
"""Nobody in particular, in no hurry, on the base model."""
