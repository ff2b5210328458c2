"""One run of a program, kernel by kernel: what each had to do, how long it took, how long it must.

Pure: takes the launches of a placed graph and the times a recorder noted for one run of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.compile import LoweredProgram
from banyan.compiler.targets.memory import Launch, Location, Memory
from banyan.compiler.tuner.roofline import Floor, kernel_floor
from banyan.compiler.tuner.work import Work, kernel_work
from banyan.devices.profile import DeviceProfile
from banyan.devices.recorder import LaunchTime
from banyan.foundation.errors import InputError


@dataclass(frozen=True, slots=True)
class KernelTime:
    """One launch.

    Attributes:
        name: of the kernel.
        begin: seconds since the run began.
        seconds: how long it took.
        work: what it had to do.
        floor: the least time for that on this device.
    """

    name: str
    begin: float
    seconds: float
    work: Work
    floor: Floor

    @property
    def roofline_share(self) -> float:
        """The floor as a share of the time it took: 1 is as fast as the device allows."""
        return self.floor.seconds / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class KernelGroup:
    """All launches of one kernel in a run; sums."""

    name: str
    launches: int
    seconds: float
    floor_seconds: float
    operations: float
    num_bytes: float
    bound: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Every launch of one run, in order.

    Attributes:
        title: what was run.
        kernels: the launches.
        seconds: from the begin of the first to the end of the last.
    """

    title: str
    kernels: tuple[KernelTime, ...]
    seconds: float

    def groups(self) -> list[KernelGroup]:
        """The launches by kernel, the slowest kernel first."""
        names = dict.fromkeys(kernel.name for kernel in self.kernels)
        groups = [_group([k for k in self.kernels if k.name == name]) for name in names]
        return sorted(groups, key=lambda group: -group.seconds)


@dataclass(frozen=True, slots=True)
class Run:
    """What was run: its name for people, the arguments, and the value of every symbol."""

    title: str
    arguments: Mapping[str, NDArray[Any]]
    sizes: Mapping[str, int]


def read_timeline(
    run: Run,
    program: LoweredProgram,
    launches: Sequence[LaunchTime],
    profile: DeviceProfile,
    cache_bytes: int = 0,
) -> Timeline:
    """Put the times of one run beside what each launch of the program had to do.

    Weights and states come from memory, unless all that a run reads of them fits into a cache of
    `cache_bytes`.

    Raises:
        InputError: `launches` are not those of one run of this program.
    """
    steps = [step for step in program.placement.steps if isinstance(step, Launch)]
    if len(steps) != len(launches):
        raise InputError(f"one run has {len(steps)} launches, {len(launches)} were noted")
    works = _works(run, program, steps)
    outside = sum(
        moved
        for step, work in zip(steps, works, strict=True)
        for at, moved in zip(step.locations, work.bytes_moved, strict=True)
        if at.memory is not Memory.ARENA
    )
    start = launches[0].begin if launches else 0
    found = []
    for step, work, time in zip(steps, works, launches, strict=True):
        far = [at.memory is not Memory.ARENA and outside > cache_bytes for at in step.locations]
        begin = (time.begin - start) / 1e9
        floor = kernel_floor(work, far, profile)
        found.append(KernelTime(step.kernel.name, begin, time.seconds, work, floor))
    seconds = (launches[-1].end - start) / 1e9 if launches else 0.0
    return Timeline(run.title, tuple(found), seconds)


def _works(run: Run, program: LoweredProgram, steps: Sequence[Launch]) -> list[Work]:
    """The work of each launch; launches of one kernel on the same inputs share it."""
    names = [str(node.attr("name")) for node in program.graph.inputs]
    known = [_integers(run.arguments.get(name)) for name in names]
    works: dict[tuple[object, ...], Work] = {}
    for step in steps:
        key = _key(step)
        if key not in works:
            arrays = [known[at.index] if _is_input(at) else None for at in step.locations]
            works[key] = kernel_work(step.kernel, run.sizes, arrays)
    return [works[_key(step)] for step in steps]


def _key(step: Launch) -> tuple[object, ...]:
    return (step.kernel, *(at if _is_input(at) else None for at in step.locations))


def _is_input(location: Location) -> bool:
    return location.memory is Memory.INPUT


def _integers(array: NDArray[Any] | None) -> NDArray[Any] | None:
    """Only integers can steer a loop."""
    return array if array is not None and np.issubdtype(array.dtype, np.integer) else None


def _group(kernels: Iterable[KernelTime]) -> KernelGroup:
    listed = list(kernels)
    slowest = max(listed, key=lambda kernel: kernel.floor.seconds)
    return KernelGroup(
        name=listed[0].name,
        launches=len(listed),
        seconds=sum(k.seconds for k in listed),
        floor_seconds=sum(k.floor.seconds for k in listed),
        operations=sum(k.work.operations for k in listed),
        num_bytes=sum(k.work.num_bytes for k in listed),
        bound=slowest.floor.bound,
    )
