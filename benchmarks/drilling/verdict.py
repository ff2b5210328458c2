"""What a run of drills has shown so far: judged after every event, kept in a file as it goes."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

LONGEST_MEDIAN_SECONDS = 2.0
"""The pause that a reader may have to bear, by the median of all faults."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a server.

    Attributes:
        kind: "kill", "stop", "cut" or, of the far worker when it may come back, "return".
        target: "engine", "worker" or "far worker".
        pauses: seconds without a token, of each stream that was under way.
        is_asked: of a return: the server was told to look, as it would have looked later.
    """

    kind: str
    target: str
    pauses: tuple[float, ...]
    is_asked: bool = False

    @property
    def is_fault(self) -> bool:
        """Whether something broke."""
        return self.kind != "return"

    @property
    def pause(self) -> float | None:
        """The median over the streams; None where none was held up."""
        return statistics.median(self.pauses) if self.pauses else None

    @property
    def name(self) -> str:
        """What happened to what."""
        return f"{self.kind} of the {self.target}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A run as far as it went.

    Attributes:
        num_wanted: faults that were to be.
        whole: answers that were whole and right.
        failures: what must not happen, and how often it did.
        events: in order.
    """

    num_wanted: int
    whole: int
    failures: Mapping[str, int] = field(default_factory=dict)
    events: Sequence[Event] = ()

    @property
    def num_faults(self) -> int:
        """How many there were."""
        return sum(event.is_fault for event in self.events)

    @property
    def median_pause(self) -> float | None:
        """Of all faults, in seconds; None before the first."""
        found = [event.pause for event in self.events if event.is_fault and event.pause is not None]
        return statistics.median(found) if found else None

    @property
    def holds(self) -> bool:
        """All faults wanted, no answer wrong, and the pause within its limit."""
        pause = self.median_pause
        is_quick = pause is not None and pause <= LONGEST_MEDIAN_SECONDS
        return self.num_faults >= self.num_wanted and not self.failures and is_quick

    def lines(self) -> Iterator[str]:
        """For a person."""
        wrong = sum(self.failures.values())
        yield f"{self.num_faults} of {self.num_wanted} faults"
        yield f"{self.whole} answers whole and right, {wrong} not"
        for failure, count in sorted(self.failures.items(), key=lambda each: -each[1]):
            yield f"FAILED {count} x: {failure}"
        groups: dict[str, list[float]] = {}
        for event in self.events:
            if event.pause is not None:
                groups.setdefault(event.name, []).append(event.pause)
                group = "all faults" if event.is_fault else "all returns"
                groups.setdefault(group, []).append(event.pause)
        for name, pauses in sorted(groups.items()):
            middle, longest = statistics.median(pauses), max(pauses)
            head = f"{name:<26} {len(pauses):4} events"
            yield f"{head}, pause {middle:.2f} s, longest {longest:.2f} s"
        yield "the bar holds" if self.holds else "the bar is not shown"

    def record(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Everything worth keeping, behind some facts of the run."""
        return {
            **facts,
            "faults_wanted": self.num_wanted,
            "whole": self.whole,
            "failures": dict(self.failures),
            "events": [asdict(event) for event in self.events],
        }


def read_record(record: Mapping[str, Any]) -> Verdict:
    """The verdict of a kept record; a run of before faults were counted wanted what it did."""
    events = tuple(Event(**{**each, "pauses": tuple(each["pauses"])}) for each in record["events"])
    faults = sum(event.is_fault for event in events)
    return Verdict(record.get("faults_wanted", faults), record["whole"], record["failures"], events)


class KeptRun:
    """One line of a file of runs, written anew after every event."""

    def __init__(self, path: Path | None, facts: Mapping[str, Any]) -> None:
        """Keep a run behind those in the file; `None` keeps nothing.

        Args:
            path: lines of JSON, one for each run; need not exist.
            facts: of this run.
        """
        self._path, self._facts = path, facts
        self._before = path.read_text(encoding="utf-8") if path and path.exists() else ""

    def write(self, verdict: Verdict) -> None:
        """Replace this run's line; a reader sees the old or the new one, never half of it."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_text(
            f"{self._before}{json.dumps(verdict.record(self._facts))}\n", encoding="utf-8"
        )
        new.replace(self._path)
