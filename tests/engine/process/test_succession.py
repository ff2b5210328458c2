"""Which deaths of engines end a request too; the engines are stand-ins."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import cast

import pytest

from banyan.engine.events import TokenEvent
from banyan.engine.process.incarnation import Incarnation
from banyan.engine.process.messages import AddRequest
from banyan.engine.process.resumption import Told
from banyan.engine.process.succession import events_over
from banyan.engine.request_context import ORDINARY
from banyan.engine.sampling import SamplingOptions
from banyan.foundation.errors import EngineStopped


@dataclass
class Engine:
    """Ends before it says anything, or answers."""

    place_at_fault: str = ""
    is_ended_from_outside: bool = False
    answers: bool = False
    is_over: bool = True

    async def generate(self, request: AddRequest, num: int) -> AsyncGenerator[TokenEvent]:
        if not self.answers:
            raise EngineStopped("gone")
        yield TokenEvent("a", 0, (7,), "x", None, "stop", 2, 1)


def is_answered(engines: Sequence[Engine]) -> bool:
    following = iter([*engines, Engine(answers=True)])

    async def next_engine(error: EngineStopped | None = None) -> Incarnation:
        return cast("Incarnation", next(following))

    async def whole() -> bool:
        told = Told(AddRequest("a", (1,), SamplingOptions(), ORDINARY))
        try:
            return bool([e async for e in events_over(told, await next_engine(), next_engine)])
        except EngineStopped:
            return False

    return asyncio.run(whole())


FAR, NEAR, STOPPED = Engine("far"), Engine("near"), Engine(is_ended_from_outside=True)


@pytest.mark.parametrize(
    ("engines", "wanted"),
    [
        ([Engine()], True),
        ([Engine(), Engine()], False),
        ([FAR, NEAR, FAR, NEAR, Engine()], True),
        ([FAR, FAR, FAR], False),
        ([STOPPED, STOPPED, STOPPED, Engine()], True),
        ([STOPPED, Engine(), Engine()], False),
    ],
)
def test_a_request_outlives_what_is_not_its_fault(engines: list[Engine], wanted: bool) -> None:
    assert is_answered(engines) is wanted
