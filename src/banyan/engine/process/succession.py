"""A request over the engines that work on it one after the other: what one began another goes on.

Called by whoever knows which engine comes next: the client of one engine, or of several replicas.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from banyan.engine.events import TokenEvent
from banyan.engine.process.incarnation import Incarnation
from banyan.engine.process.resumption import Told
from banyan.foundation.errors import EngineStopped

Result = TypeVar("Result")

NextEngine = Callable[[EngineStopped], Awaitable[Incarnation]]
"""Waits for the engine that follows one that died of an error, and raises that when none comes."""


async def events_over(
    told: Told, engine: Incarnation, next_engine: NextEngine
) -> AsyncGenerator[TokenEvent, None]:
    """Yield the events of a request; when its engine dies the next goes on behind what was told.

    Raises:
        RequestError: an engine refuses the request.
        EngineStopped: an engine failed on it, or died and was not followed by another.
    """
    request = told.request
    while True:
        try:
            async with aclosing(engine.generate(request, told.num_unfinished)) as events:
                async for event in events:
                    told.note(event)
                    yield event
            return
        except EngineStopped as error:
            if not engine.is_over:
                raise
            if not engine.is_ended_from_outside and not told.note_death(engine.place_at_fault):
                raise
            engine = await next_engine(error)
            request = told.resumed()


async def asked_of(
    ask: Callable[[Incarnation], Awaitable[Result]], engine: Incarnation, next_engine: NextEngine
) -> Result:
    """The answer to a request that is told at once; it is asked once more where the engine dies.

    Raises:
        RequestError: an engine refuses the request.
        EngineStopped: as `events_over`.
    """
    try:
        return await ask(engine)
    except EngineStopped as error:
        if not engine.is_over:
            raise
        return await ask(await next_engine(error))
