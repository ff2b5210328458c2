"""The thread pool that compiled CPU programs run on.

The pool itself is C++ (`native/thread_pool.cpp`) because a loop must start and end within a
microsecond. This module builds it, owns it, and hands programs the address of their runtime.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from banyan.devices.native import OPTIMISED_FLAGS, Compiler, SharedObject, build_shared_object
from banyan.foundation.errors import InputError

NATIVE_DIRECTORY = Path(__file__).parent / "native"
SPIN_MICROSECONDS = 200


class ThreadPool:
    """`num_threads` threads (the caller is one of them) that share parallel loops.

    Threads start with the first loop that needs them. Loops from several Python threads take turns.
    After `fork` the child's loops run on the calling thread alone.
    """

    def __init__(
        self,
        num_threads: int,
        *,
        library: Path,
        cpus: Sequence[int] | None = None,
        spin_microseconds: int = SPIN_MICROSECONDS,
    ) -> None:
        """Make a pool.

        Args:
            num_threads: at least 1.
            library: the shared object that `build_thread_pool` made.
            cpus: one CPU number per thread to pin the workers to (entry 0, the caller's, is not
                used); None leaves placement to the operating system.
            spin_microseconds: how long a thread without work stays awake.
        """
        if num_threads < 1:
            raise InputError(f"a thread pool needs at least 1 thread, not {num_threads}")
        if cpus is not None and len(cpus) != num_threads:
            raise InputError(f"{num_threads} threads need {num_threads} CPUs, not {len(cpus)}")
        self.num_threads = num_threads
        self._library = _load(library)
        pinned = (ctypes.c_int32 * num_threads)(*cpus) if cpus is not None else None
        self._pool: int | None = self._library.banyan_pool_create(
            num_threads, pinned, spin_microseconds * 1000
        )
        if not self._pool:
            raise MemoryError(f"no memory for a pool of {num_threads} threads")

    def runtime(self, scratch_bytes: int = 0) -> int:
        """Address of a `banyan_runtime` with `scratch_bytes` of scratch memory per thread.

        It stays valid while the pool is open. Raises MemoryError when scratch cannot be allocated.
        """
        address: int | None = self._library.banyan_pool_runtime(self._open_pool(), scratch_bytes)
        if address is None:
            raise MemoryError(
                f"no memory for {scratch_bytes} bytes of scratch on each of {self.num_threads} "
                "threads; use fewer threads or a smaller step"
            )
        return address

    def close(self) -> None:
        """Stop the threads and free the scratch memory. Safe to call twice."""
        if self._pool is not None:
            self._library.banyan_pool_destroy(self._pool)
            self._pool = None

    def __enter__(self) -> Self:
        """Return the pool itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the pool."""
        self.close()

    def _open_pool(self) -> int:
        if self._pool is None:
            raise InputError("the thread pool is closed; open a new one")
        return self._pool


def build_thread_pool(cache_directory: Path, compiler: Compiler | None = None) -> SharedObject:
    """Build the pool's shared object, or find the one built before.

    Raises:
        CompilerMissing: no C++ compiler on this machine.
    """
    source = (NATIVE_DIRECTORY / "thread_pool.cpp").read_text(encoding="utf-8")
    return build_shared_object(
        source,
        flags=OPTIMISED_FLAGS,
        cache_directory=cache_directory,
        name="thread_pool",
        include_directories=(NATIVE_DIRECTORY,),
        compiler=compiler,
    )


def open_thread_pool(
    num_threads: int, *, cache_directory: Path, compiler: Compiler | None = None
) -> ThreadPool:
    """Build the pool if needed and open one with `num_threads` threads."""
    library = build_thread_pool(cache_directory, compiler).path
    return ThreadPool(num_threads, library=library)


def _load(library: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(library))
    loaded.banyan_pool_create.restype = ctypes.c_void_p
    loaded.banyan_pool_create.argtypes = [
        ctypes.c_int64,
        ctypes.POINTER(ctypes.c_int32),
        ctypes.c_int64,
    ]
    loaded.banyan_pool_runtime.restype = ctypes.c_void_p
    loaded.banyan_pool_runtime.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    loaded.banyan_pool_destroy.restype = None
    loaded.banyan_pool_destroy.argtypes = [ctypes.c_void_p]
    return loaded
