"""What goes wrong in a simulation: devices that stop, or become slow. Read, or drawn by a seed."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from banyan.foundation.errors import InputError

Kind = Literal["stop", "slow"]
_FIELDS = {"at", "device", "kind", "seconds", "factor"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One device for some time.

    Attributes:
        at: seconds after the start.
        device: its name.
        kind: "stop" computes nothing, "slow" takes `factor` times as long.
        seconds: how long; infinite for good.
        factor: above 0.
    """

    at: float
    device: str
    kind: Kind = "stop"
    seconds: float = math.inf
    factor: float = 2.0


def parse_failures(text: str) -> tuple[Failure, ...]:
    """Read failures from JSON Lines: {"at": 600, "device": "a-3", "kind": "stop", "seconds": 60}.

    Raises:
        InputError: a line cannot be read; says which.
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"line {number} of the failures is no JSON: {error}") from error
        if not isinstance(row, dict) or not {"at", "device"} <= row.keys() <= _FIELDS:
            raise InputError(
                f"line {number} of the failures needs at and device, and may have kind, seconds "
                "and factor, nothing else"
            )
        found.append(_failure(number, row))
    return tuple(sorted(found, key=lambda failure: failure.at))


def random_failures(
    devices: Sequence[str],
    *,
    seconds: float,
    mean_seconds_between: float,
    repair_seconds: float,
    seed: int,
) -> tuple[Failure, ...]:
    """Devices that stop at random, each `mean_seconds_between` apart on average, and come back.

    Raises:
        InputError: a time that is no number above 0.
    """
    for what, value in (("time between failures", mean_seconds_between), ("time", seconds)):
        if not 0 < value < math.inf:
            raise InputError(f"a {what} of {value:g} s cannot be used; give a number above 0")
    chance = np.random.default_rng(seed)
    count = int(chance.poisson(len(devices) * seconds / mean_seconds_between))
    times = np.sort(chance.uniform(0.0, seconds, count))
    chosen = chance.integers(0, max(1, len(devices)), count)
    return tuple(
        Failure(at=float(at), device=devices[int(which)], seconds=repair_seconds)
        for at, which in zip(times, chosen, strict=True)
    )


def _failure(number: int, row: dict[str, Any]) -> Failure:
    device, kind = row["device"], row.get("kind", "stop")
    if not isinstance(device, str) or kind not in ("stop", "slow"):
        raise InputError(
            f"line {number} of the failures: device is {device!r} and kind {kind!r}; write the "
            "name of a device, and stop or slow"
        )
    numbers = {}
    for name, default in (("at", 0.0), ("seconds", math.inf), ("factor", 2.0)):
        value = row.get(name, default)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not value >= 0 or (name == "factor" and not 0 < value < math.inf):
            wanted = "a finite number above 0" if name == "factor" else "a number, 0 or more"
            raise InputError(f"line {number} of the failures: {name} is {value!r}; write {wanted}")
        numbers[name] = float(value)
    if not math.isfinite(numbers["at"]):
        raise InputError(f"line {number} of the failures: at is infinite; write seconds")
    return Failure(device=device, kind=kind, **numbers)
