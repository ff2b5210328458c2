import asyncio

import pytest

from banyan.engine.events import EngineStatistics, TokenEvent
from banyan.engine.process.messages import Pooled, Published, Refused
from banyan.engine.process.pending import PendingRequests
from banyan.foundation.errors import EngineStopped, Overloaded, RequestError

STATISTICS = EngineStatistics()


def event(request_id: str) -> TokenEvent:
    return TokenEvent(request_id, 0, (1,), "a", None, None, 1, 1)


def test_each_reader_gets_its_own_events_and_strangers_are_dropped() -> None:
    pending = PendingRequests()
    with pending.events("a") as first, pending.events("b") as second:
        pending.deliver(Published((event("b"), event("x"), event("a")), STATISTICS))
        assert first.get_nowait() == event("a")
        assert second.get_nowait() == event("b")
        assert first.empty()
        assert second.empty()
    pending.deliver(Published((event("a"),), STATISTICS))


def test_a_refusal_names_the_field_and_a_failure_of_the_engine_does_not_blame_the_caller() -> None:
    pending = PendingRequests()
    with pending.events("a") as events:
        pending.deliver(Refused("a", "no", "seed", is_input=True))
        refusal = events.get_nowait()
        assert isinstance(refusal, RequestError)
        assert refusal.parameter == "seed"
        pending.deliver(Refused("a", "bug", None, is_input=False))
        assert isinstance(events.get_nowait(), EngineStopped)


def test_a_reader_who_is_too_far_behind_is_told_so_and_gets_nothing_more() -> None:
    pending = PendingRequests(most_unread=2)
    with pending.events("slow") as slow, pending.events("quick") as quick:
        for _ in range(2):
            assert pending.deliver(Published((event("slow"), event("quick")), STATISTICS)) == []
            quick.get_nowait()
        both = Published((event("quick"), event("slow"), event("slow")), STATISTICS)
        assert pending.deliver(both) == ["slow"]
        assert pending.deliver(both) == []
        items = [slow.get_nowait() for _ in range(slow.qsize())]
        assert items[:3] == [event("slow")] * 3
        assert isinstance(items[3], RequestError)
        assert "more than 2 pieces behind" in str(items[3])
        assert quick.qsize() == 2


def test_a_request_that_came_at_a_bad_time_is_told_when_to_ask_again() -> None:
    pending = PendingRequests()
    with pending.events("a") as events:
        pending.deliver(Refused("a", "full", None, is_input=False, retry_after_seconds=3.0))
        refusal = events.get_nowait()
        assert isinstance(refusal, Overloaded)
        assert refusal.retry_after_seconds == 3.0


def test_vectors_reach_their_reader_once() -> None:
    async def exchange() -> tuple[bytes, ...]:
        pending = PendingRequests()
        with pending.rows("a") as answer:
            pending.deliver(Pooled("a", (b"1",)))
            pending.deliver(Pooled("a", (b"2",)))
            pending.deliver(Pooled("x", (b"3",)))
            return await answer

    assert asyncio.run(exchange()) == (b"1",)


def test_the_end_of_the_engine_ends_everything_in_flight() -> None:
    async def exchange() -> None:
        pending = PendingRequests()
        with pending.events("a") as events, pending.rows("b") as answer:
            pending.fail_all(EngineStopped("gone"))
            pending.fail_all(EngineStopped("gone twice"))
            assert str(events.get_nowait()) == "gone"
            with pytest.raises(EngineStopped, match=r"gone$"):
                await answer

    asyncio.run(exchange())
