"""Responses kept for later: a bounded number, the one used longest ago goes first."""

from collections import OrderedDict
from dataclasses import dataclass

from banyan.gateway.errors import ApiError


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """What is kept of one response, as JSON: its objects would take thirty times the room.

    Attributes:
        response_id: its name.
        caller: who made it; nobody else can read it.
        reply: as it was answered.
        input_items: what it answered, a list.
        messages: the conversation up to and with it, without instructions; a list.
    """

    response_id: str
    caller: str
    reply: bytes
    input_items: bytes
    messages: bytes

    @property
    def num_bytes(self) -> int:
        """How much room it takes."""
        return len(self.reply) + len(self.input_items) + len(self.messages)


class ResponseStore:
    """Keeps responses in memory; they are gone when the server stops.

    Args:
        max_responses: most that are kept.
        max_bytes: most room they take together.
    """

    def __init__(self, *, max_responses: int, max_bytes: int) -> None:
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, StoredResponse] = OrderedDict()
        self._num_bytes = 0

    def put(self, response: StoredResponse) -> None:
        """Keep a response, and let go of old ones when there is no room."""
        self._kept[response.response_id] = response
        self._num_bytes += response.num_bytes
        while len(self._kept) > self._max_responses or self._num_bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._num_bytes -= oldest.num_bytes

    def get(self, response_id: str, *, caller: str, parameter: str | None = None) -> StoredResponse:
        """Return a response.

        Raises:
            ApiError: 404, there is none of this id for this caller.
        """
        found = self._kept.get(response_id)
        if found is None or found.caller != caller:
            raise ApiError(
                404,
                f"there is no response {response_id!r}; it was not stored, was deleted, or had to "
                f"make room for newer ones (at most {self._max_responses} are kept)",
                parameter=parameter,
                code="response_not_found",
            )
        self._kept.move_to_end(response_id)
        return found

    def delete(self, response_id: str, *, caller: str) -> None:
        """Let go of a response; raises as `get`."""
        found = self.get(response_id, caller=caller)
        del self._kept[response_id]
        self._num_bytes -= found.num_bytes
