"""Answers without an engine, for tests of the line and its order."""

from banyan.engine.request_context import RequestContext
from banyan.engine.requests.answer_maker import AnswerMaker
from banyan.engine.requests.request import Request
from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.sampling import SamplingOptions


class Arrivals:
    """Makes answers one after the other."""

    def __init__(self) -> None:
        self._maker = AnswerMaker(None, seed=1)
        self._num_requests = 0

    def request(self, *, num_tokens: int = 10, n: int = 1, **context: object) -> Request:
        """A request of so many tokens and answers."""
        self._num_requests += 1
        return Request(
            request_id=str(self._num_requests),
            prompt_token_ids=tuple(range(num_tokens)),
            options=SamplingOptions(n=n, max_tokens=5),
            context=RequestContext(**context),  # type: ignore[arg-type]
            max_tokens=5,
            stop_token_ids=frozenset(),
            end_token_ids=frozenset(),
        )

    def answers(self, *, now: float = 0.0, **wanted: object) -> list[Answer]:
        """The answers of one request that came at `now`."""
        request = self.request(**wanted)  # type: ignore[arg-type]
        return self._maker.answers(request, arrived=now)
