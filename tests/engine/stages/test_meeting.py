"""How workers get their channels to each other."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from banyan.distributed.channel import Channel, Message
from banyan.distributed.greeting import Identity
from banyan.distributed.listener import Listener
from banyan.distributed.local import local_sockets
from banyan.distributed.opening import Conditions
from banyan.distributed.pulse import Timing
from banyan.distributed.secret import make_secret
from banyan.distributed.tcp import Address, connect_tcp, listen_tcp
from banyan.engine.stages.addresses import Neighbour
from banyan.engine.stages.meeting import Meeting
from banyan.engine.stages.remote_part import WorkOrder
from banyan.foundation.errors import ChannelClosed, StageFailed

TIMING = Timing(opening_seconds=5.0)
SECRET = make_secret()


def conditions(name: str, timing: Timing = TIMING) -> Conditions:
    return Conditions(Identity(f"the worker of {name}"), timing)


def order(place: str, *neighbours: Neighbour, session: str = "s", **options: Any) -> WorkOrder:
    return WorkOrder(
        place=place,
        device="",
        model="",
        options=options,
        dtype="float32",
        cache_format="float32",
        segments=(),
        shards={},
        neighbours=neighbours,
        session=session,
    )


@pytest.fixture
def listener() -> Iterator[Listener]:
    with closing(listen_tcp(Address("127.0.0.1", 0), SECRET, conditions("b"))) as found:
        yield found


def at_once(opened: ExitStack, *meetings: tuple[Meeting, WorkOrder]) -> list[dict[str, Channel]]:
    """All meet at the same time; their channels."""
    found: list[dict[str, Channel]] = [{} for _ in meetings]

    def meet(number: int) -> None:
        meeting, order = meetings[number]
        found[number] = meeting.meet(order)
        for channel in found[number].values():
            opened.callback(channel.close)

    threads = [threading.Thread(target=meet, args=(n,)) for n in range(len(meetings))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    return found


def test_three_of_one_host_meet_in_whatever_order_they_begin() -> None:
    ends: dict[str, dict[str, int]] = {place: {} for place in "abc"}
    for first, second in ("ab", "ac", "bc"):
        one, other = local_sockets()
        ends[first][second], ends[second][first] = one.detach(), other.detach()
    orders = [
        order(place, *(Neighbour(other, "inherit") for other in "abc" if other != place))
        for place in "cab"
    ]
    with ExitStack() as opened:
        meetings = [(Meeting(conditions(o.place), sockets=ends[o.place]), o) for o in orders]
        of_c, of_a, of_b = at_once(opened, *meetings)
        assert [sorted(found) for found in (of_a, of_b, of_c)] == [
            ["b", "c"],
            ["a", "c"],
            ["a", "b"],
        ]
        of_a["c"].send(Message("hello c"))
        assert of_c["a"].receive(timeout=5).kind == "hello c"


def test_one_connects_and_the_other_waits_and_others_are_sent_away_or_kept(
    listener: Listener, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.touch(mode=0o600)
    file.write_text(SECRET.text)
    here = Address("127.0.0.1", listener.port)
    with ExitStack() as opened:
        stale = connect_tcp(here, SECRET, conditions("a of before"))
        opened.callback(stale.close)
        stale.send(Message("neighbour", {"place": "a", "session": "older"}))
        # One that only looks whether somebody answers, and one that says nothing.
        connect_tcp(here, SECRET, conditions("who looks")).close()
        silent = connect_tcp(here, SECRET, conditions("silent"))
        opened.callback(silent.close)
        engine = connect_tcp(here, SECRET, conditions("engine"))
        opened.callback(engine.close)
        engine.send(Message("open"))
        waiting = Meeting(conditions("b"), listener=listener, secret=SECRET)
        dialling = Meeting(conditions("a"))
        dial = Neighbour("b", "dial", here.host, here.port)
        of_a, of_b = at_once(
            opened,
            (dialling, order("a", dial, plan_secret=str(file))),
            (waiting, order("b", Neighbour("a", "await"))),
        )
        of_a["b"].send(Message("hello b"))
        assert of_b["a"].receive(timeout=5).kind == "hello b"
        with pytest.raises(ChannelClosed):
            stale.receive(timeout=5)
        kept = [waiting.next_visitor() for _ in range(2)]
        for visitor in kept:
            opened.callback(visitor.channel.close)
        # Those who connect at once may be through their handshakes in any order.
        said = {visitor.said.kind if visitor.said else None for visitor in kept}
        assert said == {"open", None}


def test_an_engine_that_comes_to_a_busy_worker_is_refused_and_a_younger_one_waits(
    listener: Listener,
) -> None:
    here = Address("127.0.0.1", listener.port)
    meeting = Meeting(conditions("b"), listener=listener, secret=SECRET)
    with ExitStack() as opened:
        engine = opened.enter_context(closing(connect_tcp(here, SECRET, conditions("engine"))))
        engine.send(Message("open"))
        while not listener.num_waiting:
            time.sleep(0.01)
        meeting.turn_away(60.0, "it works for another")
        assert listener.num_waiting == 1
        meeting.turn_away(0.0, "it works for another")
        refused = engine.receive(timeout=5)
        assert (refused.kind, dict(refused.fields)) == (
            "refused",
            {"error": "StageFailed", "message": "it works for another"},
        )


def test_one_that_is_not_reached_is_named(listener: Listener) -> None:
    hurried = conditions("b", Timing(opening_seconds=0.2))
    with pytest.raises(StageFailed, match=r"does not reach the worker of a \(No worker connected"):
        Meeting(hurried, listener=listener).meet(order("b", Neighbour("a", "await")))
    nobody = Neighbour("c", "dial", "127.0.0.1", 1)
    with pytest.raises(StageFailed, match=r"worker of c \(No worker answers .* plan_workers: give"):
        Meeting(hurried, secret=SECRET).meet(order("b", nobody))
    with pytest.raises(StageFailed, match="this worker knows no shared secret"):
        Meeting(hurried).meet(order("b", nobody))
    with pytest.raises(StageFailed, match="this worker does not listen"):
        Meeting(hurried).meet(order("b", Neighbour("a", "await")))


def test_two_of_different_openings_refuse_each_other() -> None:
    one, other = local_sockets()
    refused: list[str] = []

    def meet(place: str, far: str, end: Any, session: str) -> None:
        meeting = Meeting(conditions(place), sockets={far: end.detach()})
        try:
            meeting.meet(order(place, Neighbour(far, "inherit"), session=session))
        except StageFailed as error:
            refused.append(str(error))

    thread = threading.Thread(target=meet, args=("a", "b", one, "s"))
    thread.start()
    meet("b", "a", other, "t")
    thread.join(timeout=20)
    assert len(refused) == 2
    assert "carries out plan" in refused[0]
