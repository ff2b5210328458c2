"""What happens in a simulated fleet besides requests and steps."""

from dataclasses import dataclass
from typing import TypeAlias

from banyan.planner.simulation.failures import Failure


@dataclass(frozen=True, slots=True)
class HandOver:
    """The cache of a prompt arrives where its answer is computed."""

    request: int
    replica: int


@dataclass(frozen=True, slots=True)
class Stop:
    """A device fails."""

    failure: Failure
    replica: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Somebody notices that a replica stands still; `lost` are the requests it had."""

    replica: int
    lost: list[int]


@dataclass(frozen=True, slots=True)
class Return:
    """A device is as before."""

    failure: Failure
    replica: int


Event: TypeAlias = HandOver | Stop | Notice | Return
