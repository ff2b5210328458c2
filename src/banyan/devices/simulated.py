"""A device that is a profile and a clock.

It holds no more than the numbers of a real chip, so that a plan for a machine nobody has can be
tried on a laptop. A launch takes the time the roofline predicts: the larger of the time to move
its bytes and the time to do its arithmetic, plus a fixed cost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

from numpy.typing import NDArray

from banyan.devices.device import Buffer, LoadedProgram, Program
from banyan.devices.host_memory import HostBuffer
from banyan.devices.launches import check_launch
from banyan.devices.null import NullDevice
from banyan.devices.profile import DeviceProfile
from banyan.foundation.errors import EnvironmentProblem, InputError


@dataclass(frozen=True, slots=True)
class Work:
    """What one launch does: bytes that cross the memory bus, and operations of one dtype."""

    num_bytes: int
    num_operations: float = 0.0
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class SimulatedProgram:
    """A loaded program and the way to know its work from one launch's symbols."""

    program: Program
    work: Callable[[Sequence[int]], Work] | None = None


def predict_seconds(profile: DeviceProfile, work: Work) -> float:
    """Predict how long one launch takes on a device of this profile.

    Raises:
        InputError: the profile has no peak for the dtype of the arithmetic.
    """
    moving = work.num_bytes / profile.read_bytes_per_second
    if work.num_operations == 0:
        return profile.launch_seconds + moving
    peak = profile.peaks().get(work.dtype)
    if peak is None:
        raise InputError(
            f"the profile of {profile.model} has no peak for {work.dtype}; "
            f"it has {', '.join(sorted(profile.peaks())) or 'none'}"
        )
    return profile.launch_seconds + max(moving, work.num_operations / peak)


@final
class SimulatedDevice:
    """Predicts launches on its own clock; `memory_bytes` is a limit that is kept."""

    def __init__(self, name: str, profile: DeviceProfile, *, memory_bytes: int) -> None:
        self._name = name
        self._profile = profile
        self._free_bytes = memory_bytes
        self._memory = NullDevice()
        self._seconds = 0.0

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._name

    @property
    def seconds(self) -> float:
        """What the device's clock shows: predicted seconds of everything launched and copied."""
        return self._seconds

    def allocate(self, num_bytes: int) -> HostBuffer:
        """Give memory while the simulated chip has some; it is never given back."""
        if num_bytes > self._free_bytes:
            raise EnvironmentProblem(
                f"{self._name} has {self._free_bytes} bytes free, {num_bytes} were asked for; "
                "use a smaller model or a device with more memory"
            )
        self._free_bytes -= num_bytes
        return self._memory.allocate(num_bytes)

    def adopt(self, array: NDArray[Any]) -> HostBuffer:
        """Copy an array to the simulated chip; the clock moves by the time of the copy."""
        buffer = self.allocate(array.nbytes)
        self.copy_in(array, buffer)
        return buffer

    def copy_in(self, source: NDArray[Any], target: Buffer, offset: int = 0) -> None:
        """Copy, and let the time of the copy pass."""
        self._memory.copy_in(source, target, offset)
        self._seconds += source.nbytes / self._profile.copy_bytes_per_second

    def copy_out(self, source: Buffer, target: NDArray[Any], offset: int = 0) -> None:
        """Copy, and let the time of the copy pass."""
        self._memory.copy_out(source, target, offset)
        self._seconds += target.nbytes / self._profile.copy_bytes_per_second

    def load(self, program: Program) -> SimulatedProgram:
        """Take a program whose work is all the bytes of its buffers."""
        return SimulatedProgram(program)

    def launch(
        self, loaded: LoadedProgram, buffers: Sequence[Buffer], symbols: Sequence[int]
    ) -> None:
        """Let the predicted time of the launch pass; run nothing."""
        check_launch(loaded.program, buffers, symbols)
        work = Work(num_bytes=sum(buffer.num_bytes for buffer in buffers))
        if isinstance(loaded, SimulatedProgram) and loaded.work is not None:
            work = loaded.work(symbols)
        self._seconds += predict_seconds(self._profile, work)

    def synchronize(self) -> None:
        """Launches end at once; only the clock moved."""

    def close(self) -> None:
        """Nothing to give back."""
