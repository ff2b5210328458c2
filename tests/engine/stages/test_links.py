"""Several channels read as one."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest

from banyan.distributed.channel import Message
from banyan.distributed.greeting import Identity
from banyan.distributed.in_process import InProcessChannel, channel_pair
from banyan.distributed.local import local_sockets, open_local
from banyan.distributed.opening import Conditions
from banyan.distributed.pulse import OwnPulse
from banyan.distributed.stream_channel import StreamChannel
from banyan.engine.stages.links import Arrival, Links
from banyan.foundation.errors import ChannelClosed
from tests.distributed.peers import tcp_pair

Ends = dict[str, tuple[InProcessChannel, InProcessChannel]]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Ours and theirs, by name."""
    found = {name: channel_pair("me", name) for name in ("a", "b")}
    yield found
    for ours, theirs in found.values():
        ours.close()
        theirs.close()


def links_of(ends: Ends, pulse: OwnPulse | None = None) -> Links:
    return Links({name: ours for name, (ours, _) in ends.items()}, pulse)


def kind_of(arrival: Arrival | None) -> tuple[str, str]:
    assert arrival is not None
    assert isinstance(arrival.content, Message)
    return arrival.name, arrival.content.kind


def test_messages_of_one_channel_keep_their_order_and_none_is_lost(ends: Ends) -> None:
    links = links_of(ends)
    for number in range(3):
        for name, (_, theirs) in ends.items():
            theirs.send(Message(f"{name}{number}"))
    came = [kind_of(links.receive(1.0)) for _ in range(6)]
    assert [kind for name, kind in came if name == "a"] == ["a0", "a1", "a2"]
    assert [kind for name, kind in came if name == "b"] == ["b0", "b1", "b2"]
    assert links.receive(0) is None


def test_waiting_ends_with_the_time_given(ends: Ends) -> None:
    links = links_of(ends)
    began = time.monotonic()
    assert links.receive(0.05) is None
    assert time.monotonic() - began >= 0.05


def test_a_broken_channel_is_told_once_and_others_go_on(ends: Ends) -> None:
    links = links_of(ends)
    ends["a"][1].send(Message("last"))
    ends["a"][1].close()
    assert kind_of(links.receive(1.0)) == ("a", "last")
    gone = links.receive(1.0)
    assert gone is not None
    assert (gone.name, type(gone.content)) == ("a", ChannelClosed)
    ends["b"][1].send(Message("still here"))
    assert kind_of(links.receive(1.0)) == ("b", "still here")
    assert links.receive(0) is None


def test_one_that_is_added_later_is_heard(ends: Ends) -> None:
    links = Links({"a": ends["a"][0]})
    links.add("b", ends["b"][0])
    ends["b"][1].send(Message("hello"))
    assert kind_of(links.receive(1.0)) == ("b", "hello")


def test_over_shared_memory_a_message_wakes_the_one_that_waits() -> None:

    one, other = local_sockets()
    opened = []
    thread = threading.Thread(
        target=lambda: opened.append(open_local(other, Conditions(Identity("b"))))
    )
    thread.start()
    ours = open_local(one, Conditions(Identity("a")))
    thread.join(timeout=10)
    (theirs,) = opened
    try:
        timer = threading.Timer(0.1, theirs.send, [Message("late")])
        timer.start()
        assert kind_of(Links({"b": ours}).receive(10.0)) == ("b", "late")
        timer.join()
    finally:
        ours.close()
        theirs.close()


def test_a_worker_that_waits_does_not_count_as_working(ends: Ends) -> None:
    pulse = OwnPulse(0.0)
    seen: list[float] = []
    links = links_of(ends, pulse)

    ends["a"][1].send(Message("one"))
    links.receive(1.0)
    assert pulse.working_seconds(time.monotonic() + 5) >= 5
    original = links._wait

    def watched(longest: float, *, is_urgent: bool) -> Arrival | None:
        seen.append(pulse.working_seconds(time.monotonic() + 5))
        return original(longest, is_urgent=is_urgent)

    links._wait = watched  # type: ignore[method-assign]
    assert links.receive(0.01) is None
    assert seen == [0.0]


@pytest.mark.parametrize(("size", "count"), [(4 << 20, 3), (300 << 10, 40)])
def test_three_that_send_much_in_a_circle_do_not_wait_for_each_other(size: int, count: int) -> None:
    """No shared memory lies between them: a message waits until the other side reads it."""
    pairs = [("a", "b"), ("b", "c"), ("c", "a")]
    large = np.arange(size, dtype=np.uint8)
    with ExitStack() as opened:
        ends: dict[str, dict[str, StreamChannel]] = {place: {} for place in "abc"}
        for one, other in pairs:
            ends[one][other], ends[other][one] = opened.enter_context(tcp_pair())
        heard: dict[str, int] = {}

        def work(place: str) -> None:
            links = Links(ends[place])
            (after,) = (other for one, other in pairs if one == place)
            for _ in range(count):
                links.send(after, Message("values", {}, {"x": large}))
            for _ in range(count):
                arrival = links.receive(20.0)
                assert arrival is not None
                assert isinstance(arrival.content, Message)
                heard[place] = heard.get(place, 0) + arrival.content.arrays["x"].nbytes

        threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        assert heard == dict.fromkeys("abc", count * large.nbytes)


def test_messages_that_come_regularly_are_all_heard_and_the_end_too() -> None:
    """Long enough that it is known when to look; then the other side closes."""
    ours, theirs = local_sockets()
    with ThreadPoolExecutor(2) as pool:
        opening = [
            pool.submit(open_local, end, Conditions(Identity(name)))
            for name, end in (("me", ours), ("they", theirs))
        ]
        here, there = (each.result() for each in opening)

    def speak() -> None:
        for number in range(30):
            time.sleep(0.003)
            there.send(Message("values", {"n": number}))
        there.close()

    thread = threading.Thread(target=speak)
    links = Links({"they": here})
    thread.start()
    for number in range(30):
        arrival = links.receive(10.0)
        assert arrival is not None
        assert isinstance(arrival.content, Message)
        assert arrival.content.fields["n"] == number
    end = links.receive(10.0)
    assert end is not None
    assert isinstance(end.content, ChannelClosed)
    thread.join()
    here.close()
