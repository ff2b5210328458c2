"""The loop of a worker."""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from banyan.distributed.channel import Message
from banyan.distributed.in_process import InProcessChannel, channel_pair
from banyan.engine.stages.meeting import Visitor
from banyan.engine.stages.part import ENGINE
from banyan.engine.stages.part_service import serve_part
from banyan.engine.stages.remote_part import WorkOrder, described, order_message
from tests.engine.stages.segments import Adding, segment, step

SEGMENTS = (
    segment(0, "a", {}, ("v",), {"b": ("v",)}),
    segment(2, "a", {"u": "b"}, ("logits",), {ENGINE: ("logits",)}),
)


class Serving:
    """A worker of place "a" in a thread: its engine and its neighbour "b" are ours."""

    def __init__(self, said: Callable[[Message], Message | None] = lambda _: None) -> None:
        self.engine, theirs = channel_pair("engine", "worker")
        self.neighbour, self._far_end = channel_pair("b", "worker")
        self.part = Adding({0: ("v",), 2: ("logits",)})
        self._ends = (self.engine, theirs, self.neighbour, self._far_end)
        visitor = Visitor(theirs, said(order()))
        self.thread = threading.Thread(target=serve_part, args=(visitor, self._open, self._meet))
        self.thread.start()

    def _open(self, order: WorkOrder, segments: Any) -> Any:
        assert [n.number for n in segments] == [0, 2]
        return self.part, None

    def _meet(self, order: WorkOrder) -> Mapping[str, InProcessChannel]:
        return {"b": self._far_end}

    def ask(self, message: Message) -> Message:
        self.engine.send(message)
        return self.heard()

    def heard(self) -> Message:
        """What the engine is told next, but for how long the worker has computed."""
        while (message := self.engine.receive(timeout=10)).kind == "busy":
            assert float(str(message.fields["seconds"])) > 0
        return message

    def start(self) -> None:
        assert self.ask(order()).kind == "opened"
        assert self.ask(Message("meet")).kind == "done"

    def close(self) -> None:
        self.engine.close()
        self.thread.join(timeout=10)
        assert not self.thread.is_alive()
        for end in self._ends:
            end.close()


def order() -> Message:
    found = WorkOrder(
        place="a",
        device="cpu",
        model="nowhere",
        options={},
        dtype="float32",
        cache_format="float32",
        segments=described(SEGMENTS, frozenset("ab")),
        shards={},
        has_several_steps=True,
    )
    assert msgspec.convert(msgspec.to_builtins(found), WorkOrder) == found
    return order_message(found, SEGMENTS)


@pytest.fixture
def serving() -> Iterator[Serving]:
    found = Serving()
    yield found
    found.close()
    assert found.part.is_closed


def value(message: Message, name: str) -> float:
    return float(message.arrays[name][0])


def test_values_go_to_the_neighbour_and_results_to_the_engine(serving: Serving) -> None:
    serving.start()
    for number in (1, 2):
        serving.engine.send(Message("step", {"step": number}, step(number)))
    there = [serving.neighbour.receive(timeout=10) for _ in range(2)]
    assert [(m.kind, m.fields["step"], value(m, "v")) for m in there] == [
        ("values", 1, 1.0),
        ("values", 2, 2.0),
    ]
    for number in (1, 2):
        back = {"u": np.full(1, 10.0 * number, np.float32)}
        serving.neighbour.send(Message("values", {"step": number}, back))
    came = [serving.heard() for _ in range(2)]
    assert [(m.kind, m.fields["step"], value(m, "logits")) for m in came] == [
        ("values", 1, 11.0),
        ("values", 2, 22.0),
    ]


def test_values_may_come_before_the_step(serving: Serving) -> None:
    serving.start()
    early = Message("values", {"step": 1}, {"u": np.full(1, 5.0, np.float32)})
    serving.neighbour.send(early)
    serving.engine.send(Message("step", {"step": 1}, step(1)))
    assert value(serving.heard(), "logits") == 6.0


def test_questions_are_answered_while_a_step_waits_for_a_neighbour(serving: Serving) -> None:
    serving.start()
    serving.engine.send(Message("step", {"step": 1}, step(1)))
    answer = serving.ask(Message("read", {"names": ["keys"], "indices": [4]}))
    assert answer.arrays["keys"].tolist() == [[4.0, 4.0]]
    refused = serving.ask(Message("load"))
    assert (refused.kind, refused.fields["error"]) == ("refused", "InputError")


def test_a_segment_that_fails_is_told_and_the_worker_goes_on(serving: Serving) -> None:
    serving.start()
    serving.engine.send(Message("step", {"step": 1}, step(-1)))
    failed = serving.heard()
    assert (failed.kind, failed.fields["message"]) == ("failed", "segment 0 on a gave NaN")
    wrong = Message("values", {"step": 1}, {"other": np.zeros(1, np.float32)})
    serving.neighbour.send(wrong)
    refused = str(serving.heard().fields["message"])
    assert refused.startswith("b sent 'other', which nothing here takes")
    assert serving.ask(Message("read", {"names": ["keys"], "indices": [0]})).kind == "done"


def test_a_neighbour_that_is_gone_is_told_to_the_engine(serving: Serving) -> None:
    serving.start()
    serving.neighbour.close()
    lost = serving.heard()
    assert (lost.kind, lost.fields["place"]) == ("lost", "b")
    serving.engine.send(Message("step", {"step": 1}, step(1)))
    assert serving.heard().kind == "lost"


def test_what_makes_no_sense_is_refused(serving: Serving) -> None:
    early = serving.ask(Message("allocate", {}))
    assert "before it was told what to hold" in str(early.fields["message"])
    serving.start()
    assert "was told twice" in str(serving.ask(order()).fields["message"])
    assert "which no worker does" in str(serving.ask(Message("dance")).fields["message"])


def test_what_a_visitor_said_before_is_answered_first() -> None:
    serving = Serving(lambda order: order)
    assert serving.heard().kind == "opened"
    serving.close()
