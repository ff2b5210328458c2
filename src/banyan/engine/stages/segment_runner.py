"""Runs the segments of one process as soon as what they take is here, and sends on what they give.

The same in a worker, which has one place of a plan, and in the engine, which has those that are in
its own process. What is sent and received, and when to wait, is the business of those two.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from banyan.compiler.executable import Array
from banyan.engine.stages.inbox import ARGUMENTS, Inbox, Key, Ready
from banyan.engine.stages.part import ENGINE, NumberedSegment, gave_nan, has_nan
from banyan.foundation.errors import StageFailed

Send = Callable[[str, str, int, Mapping[str, Array]], None]
"""Sends values of a step from a place to another; `ENGINE` is the engine, for results."""


class Computing(Protocol):
    """What computes the segments of a place; see `part.LocalPart`."""

    def compute(
        self, number: int, arguments: Mapping[str, Array], values: Mapping[str, Array]
    ) -> Mapping[str, Array]:
        """Run a segment; what it gives may be overwritten when it runs again."""
        ...

    def check(self, number: int, results: Mapping[str, Array]) -> None:
        """Raise `StageFailed` where a segment gave NaN."""
        ...


@dataclass(frozen=True, slots=True)
class _Work:
    """A segment, and where what it gives goes.

    Attributes:
        place: of the segment.
        part: computes it.
        sent: to other processes.
        kept: for segments of this process.
    """

    place: str
    part: Computing
    sent: tuple[tuple[str, tuple[str, ...]], ...]
    kept: tuple[str, ...]


class SegmentRunner:
    """The segments of one process.

    Attributes:
        results: by step, results of the whole graph that are complete, in the engine.
        busy_seconds: by place, how long it has computed.
    """

    def __init__(
        self,
        parts: Mapping[str, Computing],
        segments: Sequence[NumberedSegment],
        send: Send,
        *,
        results: Sequence[Key] = (),
        has_several_steps: bool = False,
    ) -> None:
        """Take what is computed here.

        Args:
            parts: of the places of this process.
            segments: of these places.
            send: to other processes.
            results: of the whole graph, where this is the engine.
            has_several_steps: another step may run before this one is through, and overwrite
                what programs gave.
        """
        here = {*parts, ENGINE} if results else set(parts)
        needs: dict[int, Sequence[Key]] = {
            n.number: [(source, name) for name, source in n.segment.received.items()]
            for n in segments
        }
        self._collecting = -1
        if results:
            self._collecting = 1 + max(needs, default=0)
            needs[self._collecting] = results
        self._begins_steps = any(not keys for keys in needs.values())
        self._inbox: Inbox[Any] = Inbox(needs)
        self._work = {n.number: self._work_of(n, parts, here) for n in segments}
        self._send = send
        self._copies = has_several_steps
        self.results: dict[int, Mapping[str, Array]] = {}
        self.busy_seconds = dict.fromkeys(parts, 0.0)

    def _work_of(
        self, numbered: NumberedSegment, parts: Mapping[str, Computing], here: set[str]
    ) -> _Work:
        place = numbered.segment.place
        return _Work(
            place,
            parts[place],
            tuple((to, names) for to, names in numbered.sent.items() if to not in here),
            tuple(name for name in numbered.segment.given if (place, name) in self._inbox),
        )

    @property
    def is_waiting(self) -> bool:
        """A step is under way here."""
        return self._inbox.is_waiting

    @property
    def is_awaited(self) -> bool:
        """What comes next may make a segment ready: others wait for what it gives."""
        return self._begins_steps or self._inbox.is_waiting

    def begin(self, step: int, arguments: Mapping[str, Array]) -> None:
        """A step begins, with the arguments that segments here read."""
        self._inbox.put(step, {ARGUMENTS: arguments})

    def receive(self, place: str, step: int, values: Mapping[str, Array]) -> None:
        """Values came from another place.

        Raises:
            StageFailed: nothing here takes them.
        """
        self._inbox.put(step, {(place, name): value for name, value in values.items()})

    def run_next(self) -> bool:
        """Run the earliest segment that can; False when none can.

        Raises:
            StageFailed: it computed NaN.
        """
        ready = self._inbox.take()
        if ready is None:
            return False
        given = {key[1]: value for key, value in ready.values.items() if key is not ARGUMENTS}
        if ready.number == self._collecting:
            self.results[ready.step] = given
            return True
        work = self._work[ready.number]
        began = time.perf_counter()
        found = work.part.compute(ready.number, ready.values[ARGUMENTS], given)
        self.busy_seconds[work.place] += time.perf_counter() - began
        self._hand_over(work, ready, found)
        if work.kept:
            kept = {(work.place, name): self._keep(found[name]) for name in work.kept}
            self._inbox.put(ready.step, kept)
        return True

    def _hand_over(self, work: _Work, ready: Ready[Any], found: Mapping[str, Array]) -> None:
        """Send what other processes take, and look for NaN.

        Who takes values has a segment to compute with them, and gives NaN for NaN: they go first,
        so that nobody waits for the looking. What the engine gets is an answer at once: it is
        sound.
        """
        for place, names in work.sent:
            if place != ENGINE:
                self._send(work.place, place, ready.step, {name: found[name] for name in names})
        self._check(work, ready, found)
        for place, names in work.sent:
            if place == ENGINE:
                self._send(work.place, place, ready.step, {name: found[name] for name in names})

    def _check(self, work: _Work, ready: Ready[Any], found: Mapping[str, Array]) -> None:
        """Blame the place that gave the first NaN, which may not have said so yet."""
        try:
            work.part.check(ready.number, found)
        except StageFailed:
            for key, value in ready.values.items():
                if key is not ARGUMENTS and key[0] != work.place and has_nan(value):
                    raise gave_nan(f"a segment on {key[0]}", key[0]) from None
            raise

    def _keep(self, array: Array) -> Array:
        return array.copy() if self._copies else array
