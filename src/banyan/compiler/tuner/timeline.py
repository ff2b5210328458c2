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


def read_timeline(
    title: str,
    program: LoweredProgram,
    arguments: Mapping[str, NDArray[Any]],
    sizes: Mapping[str, int],
    launches: Sequence[LaunchTime],
    profile: DeviceProfile,
) -> Timeline:
    """Put the times of one run beside what each launch of the program had to do.

    Raises:
        InputError: `launches` are not those of one run of this program.
    """
    steps = [step for step in program.placement.steps if isinstance(step, Launch)]
    if len(steps) != len(launches):
        raise InputError(f"one run has {len(steps)} launches, {len(launches)} were noted")
    known = [_integers(arguments.get(str(node.attr("name")))) for node in program.graph.inputs]
    start = launches[0].begin if launches else 0
    works: dict[tuple[object, ...], Work] = {}
    found = []
    for step, time in zip(steps, launches, strict=True):
        key = (step.kernel, *(at if _is_input(at) else None for at in step.locations))
        if key not in works:
            arrays = [known[at.index] if _is_input(at) else None for at in step.locations]
            works[key] = kernel_work(step.kernel, sizes, arrays)
        far = [at.memory is not Memory.ARENA for at in step.locations]
        floor = kernel_floor(works[key], far, profile)
        begin = (time.begin - start) / 1e9
        found.append(KernelTime(step.kernel.name, begin, time.seconds, works[key], floor))
    seconds = (launches[-1].end - start) / 1e9 if launches else 0.0
    return Timeline(title, tuple(found), seconds)


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
