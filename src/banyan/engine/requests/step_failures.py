"""When a step fails: whose fault it is, and when the model itself has to be given up.

Used by the queues of pooling and of speech and for images, whose models keep nothing between two
requests.
"""

import logging

from banyan.engine.requests.reception import Refusal

_logger = logging.getLogger("banyan.engine")

# So many requests in a row, and none that went well between them, are not at fault themselves.
_MOST_IN_A_ROW = 8


class StepFailures:
    """Gives up the requests that cannot be computed, until too many of them cannot."""

    def __init__(self) -> None:
        self._refusals: list[Refusal] = []
        self._num_in_a_row = 0

    def succeed(self) -> None:
        """Note that a step went well."""
        self._num_in_a_row = 0

    def give_up(self, request_id: str, error: Exception) -> None:
        """End one request with the reason.

        Raises:
            Exception: the same error, when the model fails at whatever it is given.
        """
        self._num_in_a_row += 1
        if self._num_in_a_row >= _MOST_IN_A_ROW:
            raise error
        _logger.error("request %s failed in a step", request_id, exc_info=error)
        self._refusals.append(Refusal(request_id, error))

    def take(self) -> list[Refusal]:
        """The requests given up since the last call."""
        refusals, self._refusals = self._refusals, []
        return refusals
