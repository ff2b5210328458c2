"""The cores of this machine as one device.

Loads a program's shared object, lends it the thread pool and launches it on host memory. Never
compiles a program. The probe of the same device is in `cpu_probe.py`.
"""

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress, count
from operator import is_not
from typing import Any, TypeAlias, final

from numpy.typing import NDArray

from banyan.devices.device import Buffer, LoadedProgram, Program
from banyan.devices.host_memory import (
    BorrowedBuffer,
    HostBuffer,
    adopt_host_array,
    allocate_host_memory,
    copy_from_buffer,
    copy_into_buffer,
)
from banyan.devices.launches import check_launch
from banyan.devices.native import is_whole
from banyan.devices.recorder import LaunchRecorder
from banyan.devices.thread_pool import ThreadPool
from banyan.foundation.errors import CompilationFailed, EnvironmentProblem, InputError

# int32_t banyan_run(const banyan_runtime*, void* const* buffers, const int64_t* symbols);
# see native/program_abi.h
_Entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)

Invoke: TypeAlias = Callable[[Any, int, Any, Any], int]
"""How an entry is called: (entry, runtime, buffers, symbols) -> code."""


@dataclass(frozen=True, slots=True)
class CpuProgram:
    """A program whose shared object is in this process.

    Attributes:
        program: what was loaded.
        library: the shared object.
        entry: its C function.
        addresses: of the buffers of the last launch.
        given: these buffers; most of them, the weights, come again with every launch.
        numbers: room for the symbols of a launch.
    """

    program: Program
    library: ctypes.CDLL
    entry: Any
    addresses: Any
    given: list[Buffer | None]
    numbers: Any

    def place(self, buffers: Sequence[Buffer]) -> None:
        """Let `addresses` be those of `buffers`.

        Raises:
            InputError: a buffer is not in the memory of the host.
        """
        for i in compress(count(), map(is_not, self.given, buffers)):
            self.addresses[i] = _address(buffers[i])
            self.given[i] = buffers[i]


@final
class CpuDevice:
    """Runs programs on the cores of this machine.

    A launch returns when the program is done. Launches from several Python threads take turns,
    because they share the threads and their scratch memory. The threads come with the first
    program, so a machine without a C++ compiler still has a device whose memory can be used.
    """

    def __init__(self, num_threads: int, open_pool: Callable[[int], ThreadPool]) -> None:
        """Make a device; `open_pool` gives a pool of so many threads, which the device owns."""
        if num_threads < 1:
            raise InputError(f"the CPU needs at least 1 thread, not {num_threads}")
        self._num_threads = num_threads
        self._open_pool = open_pool
        self._pool: ThreadPool | None = None
        self._closed = False
        self._turn = threading.Lock()
        self._invoke: Invoke = _call

    @property
    def name(self) -> str:
        """Always "cpu"."""
        return "cpu"

    @property
    def num_threads(self) -> int:
        """Threads that share the work of one launch, the caller's among them."""
        return self._num_threads

    def thread_pool(self) -> ThreadPool:
        """Give the threads that launches share, for other native work; the device closes them.

        Raises:
            CompilerMissing: the pool cannot be built, for want of a C++ compiler.
        """
        with self._turn:
            return self._pool_now()

    def allocate(self, num_bytes: int) -> HostBuffer:
        """Map zeroed memory, aligned to pages, from 2 MiB on to huge pages."""
        return allocate_host_memory(num_bytes)

    def adopt(self, array: NDArray[Any]) -> HostBuffer:
        """Use the array's own memory; its alignment stays what it is."""
        return adopt_host_array(array)

    def copy_in(self, source: NDArray[Any], target: Buffer, offset: int = 0) -> None:
        """Copy a host array into a buffer."""
        copy_into_buffer(source, target, offset)

    def copy_out(self, source: Buffer, target: NDArray[Any], offset: int = 0) -> None:
        """Copy what a buffer holds into a host array."""
        copy_from_buffer(source, target, offset)

    def load(self, program: Program) -> CpuProgram:
        """Open the program's shared object and find its entry; start the threads if need be.

        Raises:
            CompilationFailed: its image or its entry cannot be loaded.
            CompilerMissing: the thread pool cannot be built, for want of a C++ compiler.
        """
        if program.image is None:
            raise CompilationFailed(
                f"program {program.name!r} of target {program.target!r} has no shared object; "
                "the CPU runs programs of target 'cpp'"
            )
        if not is_whole(program.image):
            raise CompilationFailed(
                f"cannot load program {program.name!r} from {program.image.name}: it is missing or "
                "cut off; delete it from the cache so that it is built again"
            )
        try:
            library = ctypes.CDLL(str(program.image))
            address = ctypes.cast(getattr(library, program.entry), ctypes.c_void_p).value
        except (OSError, AttributeError) as error:
            raise CompilationFailed(
                f"cannot load program {program.name!r} from {program.image.name}: {error}; "
                "delete it from the cache so that it is built again"
            ) from error
        self.thread_pool()
        num_buffers = program.num_buffers
        addresses = (ctypes.c_void_p * num_buffers)()
        numbers = (ctypes.c_int64 * program.num_symbols)()
        entry = _Entry(address or 0)
        return CpuProgram(program, library, entry, addresses, [None] * num_buffers, numbers)

    def launch(
        self, loaded: LoadedProgram, buffers: Sequence[Buffer], symbols: Sequence[int]
    ) -> None:
        """Run a program on all threads and wait for it; other Python threads go on meanwhile."""
        program = loaded.program
        check_launch(program, buffers, symbols)
        if not isinstance(loaded, CpuProgram):
            raise InputError(f"program {program.name!r} was loaded by another device than the CPU")
        with self._turn:
            loaded.place(buffers)
            loaded.numbers[:] = symbols
            runtime = self._runtime(program)
            code = self._invoke(loaded.entry, runtime, loaded.addresses, loaded.numbers)
        if code != 0:
            raise EnvironmentProblem(f"program {program.name!r} failed with code {code}")

    def record(self, recorder: LaunchRecorder | None) -> None:
        """Let a recorder note every kernel from now on; None ends it."""
        with self._turn:
            self._invoke = _call if recorder is None else recorder.invoke

    def synchronize(self) -> None:
        """A launch is done when it returns: nothing to wait for."""

    def close(self) -> None:
        """Stop the threads and free their scratch memory."""
        with self._turn:
            self._closed = True
            if self._pool is not None:
                self._pool.close()
                self._pool = None

    def _runtime(self, program: Program) -> int:
        """Address of the threads and scratch that a program needs."""
        try:
            return self._pool_now().runtime(program.scratch_bytes_per_thread)
        except MemoryError as error:
            raise EnvironmentProblem(str(error)) from error

    def _pool_now(self) -> ThreadPool:
        if self._closed:
            raise InputError("the CPU device is closed; open a new one")
        if self._pool is None:
            self._pool = self._open_pool(self._num_threads)
        return self._pool


def _call(entry: Any, runtime: int, addresses: Any, values: Any) -> int:
    return int(entry(runtime, addresses, values))


def _address(buffer: Buffer) -> int:
    if not isinstance(buffer, HostBuffer | BorrowedBuffer):
        raise InputError(f"the CPU cannot read a buffer of type {type(buffer).__name__}")
    return buffer.address
