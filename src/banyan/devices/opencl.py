"""OpenCL devices: memory, programs compiled by the driver, launches on one queue in order.

Any chip with an OpenCL 1.2 driver, and PoCL, which runs OpenCL on the cores of this machine. What
a driver claims is tried once before it is believed. Needs the package pyopencl, which is imported
when a device is opened and never before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from banyan.devices.device import Buffer, LoadedProgram, Program
from banyan.devices.launch_plan import LaunchPlan, Place, Step, evaluate_formula, read_plan
from banyan.devices.launches import check_launch
from banyan.devices.opencl_driver import Reported, compile_source, first_line, load_pyopencl
from banyan.devices.opencl_limits import PROBE, OpenClLimits, believed_limits, claimed_limits
from banyan.foundation.errors import CompilationFailed, EnvironmentProblem, InputError

_GROUPS_OF_UNIT = 8
"""Work-groups for each compute unit where every group needs global memory of its own."""


@final
class OpenClBuffer:
    """Memory of a device."""

    __slots__ = ("_num_bytes", "memory")

    def __init__(self, memory: Any, num_bytes: int) -> None:
        self.memory = memory
        self._num_bytes = num_bytes

    @property
    def num_bytes(self) -> int:
        """How many bytes the caller asked for."""
        return self._num_bytes

    @property
    def is_on_host(self) -> bool:
        """Never, even where the chip shares the host's memory: OpenCL asks for a mapping first."""
        return False

    def array(self, dtype: np.dtype[Any], shape: Sequence[int]) -> NDArray[Any]:
        """Refused: use `copy_out`."""
        raise InputError("the host cannot address the memory of an OpenCL device; copy it out")


@dataclass(slots=True)
class _Ready:
    """A step with a kernel object of its own, and the arguments that object holds."""

    step: Step
    kernel: Any
    memory_bytes: int
    given: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class OpenClProgram:
    """One entry of a program that the driver compiled."""

    program: Program
    plan: LaunchPlan
    steps: tuple[_Ready, ...]
    constants: OpenClBuffer


@final
class OpenClDevice:
    """One OpenCL device; launches run in order on one queue."""

    def __init__(
        self, name: str, chip: Any, cache_directory: Path, claimed: OpenClLimits | None = None
    ) -> None:
        """Open `chip`, a `pyopencl.Device`; `claimed` replaces what the driver says of it.

        Raises:
            EnvironmentProblem: the driver gives no queue, or runs not even the smallest kernel.
        """
        self._cl = load_pyopencl()
        self._name = name
        self._chip = chip
        self._cache_directory = cache_directory
        self._programs: dict[Path, tuple[LaunchPlan, Any]] = {}
        self._memory: OpenClBuffer | None = None
        self._closed = False
        self._given_bytes = 0
        try:
            self._context = self._cl.Context([chip])
            self._queue = self._cl.CommandQueue(self._context)
        except (self._cl.Error, MemoryError) as error:
            raise EnvironmentProblem(
                f"{name} ({self.model}) gives no queue: {first_line(error)}; use --device cpu"
            ) from error
        claims = claimed or claimed_limits(chip, is_cpu=self.is_cpu)
        self._limits = believed_limits(f"{name} ({self.model})", claims, self._try)

    @property
    def name(self) -> str:
        """For example "opencl:0"."""
        return self._name

    @property
    def model(self) -> str:
        """The maker's name of the chip."""
        return str(self._chip.name).strip()

    @property
    def limits(self) -> OpenClLimits:
        """What a work-group may use, as tried out."""
        return self._limits

    @property
    def is_cpu(self) -> bool:
        """Whether it is the cores of this machine, by another way."""
        return bool(self._chip.type & self._cl.device_type.CPU)

    @property
    def free_bytes(self) -> int:
        """Memory of the device that was not given out yet; what was given back is not counted."""
        return max(0, int(self._chip.global_mem_size) - self._given_bytes)

    def allocate(self, num_bytes: int) -> OpenClBuffer:
        """Zeroed memory of the device."""
        buffer = self._buffer(num_bytes)
        with self._reported(f"clear {num_bytes} bytes"):
            zero = np.zeros(1, np.uint8)
            self._cl.enqueue_fill_buffer(self._queue, buffer.memory, zero, 0, max(num_bytes, 1))
        return buffer

    def adopt(self, array: NDArray[Any]) -> OpenClBuffer:
        """Copy an array to the device."""
        buffer = self._buffer(array.nbytes)
        self.copy_in(array, buffer)
        return buffer

    def copy_in(self, source: NDArray[Any], target: Buffer, offset: int = 0) -> None:
        """Copy a host array into a buffer."""
        self._check_range(target, offset, source.nbytes)
        if source.nbytes:
            with self._reported(f"copy {source.nbytes} bytes to the device"):
                plain = np.ascontiguousarray(source).reshape(-1).view(np.uint8)
                memory = self._memory_of(target)
                self._cl.enqueue_copy(self._queue, memory, plain, dst_offset=offset)

    def copy_out(self, source: Buffer, target: NDArray[Any], offset: int = 0) -> None:
        """Copy what a buffer holds into a contiguous host array, after what was launched."""
        self._check_range(source, offset, target.nbytes)
        if target.nbytes:
            with self._reported(f"copy {target.nbytes} bytes from the device"):
                plain = target.reshape(-1).view(np.uint8)
                memory = self._memory_of(source)
                self._cl.enqueue_copy(self._queue, plain, memory, src_offset=offset)

    def load(self, program: Program) -> OpenClProgram:
        """Let the driver compile a program, or find it compiled.

        Raises:
            CompilationFailed: the program is damaged, made for another target, or refused.
        """
        if program.image is None or program.target != "opencl":
            raise CompilationFailed(
                f"program {program.name!r} of target {program.target!r} is not made for OpenCL; "
                f"{self._name} runs programs of target 'opencl'"
            )
        plan, built = self._built(program.image)
        if program.entry not in plan.entries:
            raise CompilationFailed(f"{program.image.name} has no entry {program.entry!r}")
        steps = tuple(self._ready(step, plan, built) for step in plan.entries[program.entry])
        constants = np.frombuffer(plan.constants, np.uint8)
        return OpenClProgram(program, plan, steps, self.adopt(constants))

    def launch(
        self, loaded: LoadedProgram, buffers: Sequence[Buffer], symbols: Sequence[int]
    ) -> None:
        """Put every step of a program on the queue."""
        program = loaded.program
        check_launch(program, buffers, symbols)
        if not isinstance(loaded, OpenClProgram):
            raise InputError(f"program {program.name!r} was loaded by another device")
        if self._closed:
            raise InputError(f"the device {self._name} is closed; open a new one")
        constants = loaded.constants
        with self._reported(f"run program {program.name!r}"):
            for ready in loaded.steps:
                self._start(ready, loaded.plan, buffers, symbols, constants)
            self._queue.flush()

    def synchronize(self) -> None:
        """Wait for the queue."""
        with self._reported("wait for the queue"):
            self._queue.finish()

    def close(self) -> None:
        """Let go of the memory that launches share; what else was given is freed by its users."""
        self._closed = True
        self._memory = None
        self._programs.clear()

    def _start(
        self,
        ready: _Ready,
        plan: LaunchPlan,
        buffers: Sequence[Buffer],
        symbols: Sequence[int],
        constants: OpenClBuffer,
    ) -> None:
        step = ready.step
        amount = evaluate_formula(step.amount, symbols)
        if amount == 0:
            return
        places = [self._located(place, buffers, symbols, constants) for place in step.places]
        if ready.kernel is None:
            (source, start), (target, end) = places
            self._cl.enqueue_copy(
                self._queue, target, source, byte_count=amount, src_offset=start, dst_offset=end
            )
            return
        arguments: list[Any] = [part for place in places for part in place]
        arguments += [*(symbols[number] for number in step.symbols), amount]
        groups = amount
        if ready.memory_bytes:
            groups = min(amount, _GROUPS_OF_UNIT * max(1, int(self._chip.max_compute_units)))
            arguments.append(self._shared_memory(groups * ready.memory_bytes))
        self._give(ready, arguments)
        self._cl.enqueue_nd_range_kernel(
            self._queue, ready.kernel, (groups * plan.lanes,), (plan.lanes,)
        )

    def _give(self, ready: _Ready, arguments: list[Any]) -> None:
        """Tell the kernel's object the arguments that differ from those of its last launch."""
        given = ready.given or [None] * len(arguments)
        for number, (old, new) in enumerate(zip(given, arguments, strict=True)):
            if old is not new and (not isinstance(new, int) or old != new):
                ready.kernel.set_arg(number, np.int64(new) if isinstance(new, int) else new)
        ready.given = arguments

    def _located(
        self,
        place: Place,
        buffers: Sequence[Buffer],
        symbols: Sequence[int],
        constants: OpenClBuffer,
    ) -> tuple[Any, int]:
        buffer = constants if place.buffer is None else buffers[place.buffer]
        offset = place.offset if place.symbol is None else symbols[place.symbol]
        return self._memory_of(buffer), offset

    def _shared_memory(self, num_bytes: int) -> Any:
        """Memory for the groups of one launch; the queue runs launches one after the other."""
        if self._memory is None or self._memory.num_bytes < num_bytes:
            self._memory = self._buffer(num_bytes)
        return self._memory.memory

    def _buffer(self, num_bytes: int) -> OpenClBuffer:
        if num_bytes < 0:
            raise InputError(f"cannot allocate {num_bytes} bytes; ask for 0 or more")
        largest = int(self._chip.max_mem_alloc_size)
        if num_bytes > largest:
            raise EnvironmentProblem(
                f"{self._name} gives at most {largest} bytes in one piece, {num_bytes} were asked "
                "for; use a smaller model, context or batch, or --device cpu"
            )
        with self._reported(f"allocate {num_bytes} bytes"):
            flags = self._cl.mem_flags.READ_WRITE
            memory = self._cl.Buffer(self._context, flags, max(num_bytes, 1))
        self._given_bytes += num_bytes
        return OpenClBuffer(memory, num_bytes)

    def _memory_of(self, buffer: Buffer) -> Any:
        if not isinstance(buffer, OpenClBuffer):
            raise InputError(f"{self._name} cannot read a buffer of type {type(buffer).__name__}")
        return buffer.memory

    def _check_range(self, buffer: Buffer, offset: int, num_bytes: int) -> None:
        if offset + num_bytes > buffer.num_bytes:
            raise InputError(
                f"{num_bytes} bytes at {offset} are beyond the {buffer.num_bytes} of the buffer"
            )

    def _built(self, image: Path) -> tuple[LaunchPlan, Any]:
        if image not in self._programs:
            plan = read_plan(image)
            if plan.lanes > self._limits.lanes:
                raise CompilationFailed(
                    f"{image.name} was made for work-groups of {plan.lanes}, "
                    f"{self._name} runs {self._limits.lanes}; it is made again"
                )
            self._programs[image] = plan, self._compiled(plan.source)
        return self._programs[image]

    def _ready(self, step: Step, plan: LaunchPlan, built: Any) -> _Ready:
        if step.kernel is None:
            return _Ready(step, None, 0)
        kernel = plan.kernels[step.kernel]
        return _Ready(step, self._cl.Kernel(built, kernel.name), kernel.memory_bytes)

    def _compiled(self, source: str) -> Any:
        return compile_source(self._cl, self._context, source, ("-w",), self._cache_directory)

    def _try(self, limits: OpenClLimits) -> str | None:
        """Run a kernel within limits; the reason where it fails."""
        options = (f"-DLANES={limits.lanes}", f"-DBYTES={limits.local_bytes}")
        found = np.full(limits.lanes, -1, np.int32)
        try:
            built = compile_source(self._cl, self._context, PROBE, options, self._cache_directory)
            kernel = self._cl.Kernel(built, "probe")
            target = self._buffer(found.nbytes)
            kernel.set_arg(0, target.memory)
            size = (limits.lanes,)
            self._cl.enqueue_nd_range_kernel(self._queue, kernel, size, size)
            self.copy_out(target, found)
        except (self._cl.Error, MemoryError, EnvironmentProblem, CompilationFailed) as error:
            return first_line(error)
        return None if (found == np.arange(limits.lanes)).all() else "its results are wrong"

    def _reported(self, what: str) -> Reported:
        return Reported(self._cl, f"{self._name} ({self.model}) cannot {what}")
