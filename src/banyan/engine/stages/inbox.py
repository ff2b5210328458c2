"""Which segment of which step runs next in a process, and what it is given. Pure.

Values come in any order, of several steps at once. A segment runs when all it takes is here, the
earliest step first and in it the earliest segment. So every segment runs the steps in the order in
which they were begun, provided that what one place sends another keeps its order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from banyan.foundation.errors import StageFailed

Key: TypeAlias = tuple[str, str]
"""The place that gave a value, and its name: two places may compute a value of one name."""

ARGUMENTS: Key = ("", "")
"""What a step is begun with; every segment waits for it."""

Value = TypeVar("Value")


class Ready(NamedTuple, Generic[Value]):
    """A segment that can run.

    Attributes:
        step: of which step.
        number: of the segment.
        values: what it takes, `ARGUMENTS` among them.
    """

    step: int
    number: int
    values: Mapping[Key, Value]


@dataclass(slots=True)
class _Step(Generic[Value]):
    """A step that has begun here.

    Attributes:
        values: what is here and will still be taken.
        uses: by key, how many segments have still to take it.
        missing: by segment, how many values it waits for.
    """

    uses: dict[Key, int]
    missing: dict[int, int]
    values: dict[Key, Value] = field(default_factory=dict)


class Inbox(Generic[Value]):
    """The values of the steps under way, and which segments they make ready."""

    def __init__(self, needs: Mapping[int, Iterable[Key]]) -> None:
        """Take the segments of the process.

        Args:
            needs: number of a segment -> what it takes besides `ARGUMENTS`.
        """
        self._needs = {number: (ARGUMENTS, *keys) for number, keys in needs.items()}
        takers: dict[Key, list[int]] = {ARGUMENTS: []}
        for number, keys in self._needs.items():
            for key in keys:
                takers.setdefault(key, []).append(number)
        self._takers = {key: tuple(numbers) for key, numbers in takers.items()}
        self._uses = {key: len(numbers) for key, numbers in takers.items()}
        self._missing = {number: len(keys) for number, keys in self._needs.items()}
        self._steps: dict[int, _Step[Value]] = {}
        self._ready: list[tuple[int, int]] = []

    def __contains__(self, key: Key) -> bool:
        """Whether a segment here takes it."""
        return key in self._takers

    @property
    def is_waiting(self) -> bool:
        """A step has come that has not run all its segments here."""
        return bool(self._steps)

    def put(self, step: int, values: Mapping[Key, Value]) -> None:
        """Values of a step are here.

        Raises:
            StageFailed: nothing here takes one of them.
        """
        found = self._steps.get(step)
        if found is None:
            found = self._steps[step] = _Step(dict(self._uses), dict(self._missing))
        for key, value in values.items():
            takers = self._takers.get(key)
            if takers is None:
                raise StageFailed(
                    f"{key[0]} sent {key[1]!r}, which nothing here takes; start all workers of the "
                    "plan again"
                )
            found.values[key] = value
            for number in takers:
                found.missing[number] -= 1
                if not found.missing[number]:
                    heappush(self._ready, (step, number))

    def take(self) -> Ready[Value] | None:
        """The segment to run now; None while every one waits. Values nobody else takes go."""
        if not self._ready:
            return None
        step, number = heappop(self._ready)
        found = self._steps[step]
        given = {key: found.values[key] for key in self._needs[number]}
        for key in given:
            found.uses[key] -= 1
            if not found.uses[key]:
                del found.values[key]
        del found.missing[number]
        if not found.missing:
            del self._steps[step]
        return Ready(step, number, given)
