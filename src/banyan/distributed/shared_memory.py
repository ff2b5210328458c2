"""Memory that two processes of one host share: one writes, the other only reads.

Owns the mapping and what is lent out of it. The memory has no name: it is a descriptor, handed over
a Unix socket, so nobody else can open it, a limit on /dev/shm does not hold for it, and it is gone
when the last process that maps it is, however that process ended. Pages are real only once touched.
"""

import contextlib
import fcntl
import mmap
import os
import weakref
from collections import deque
from typing import Any

import numpy as np

from banyan.distributed.words import WORD_BYTES, HeardWords
from banyan.foundation.errors import DamagedMessage, EnvironmentProblem

# Touched ahead by both sides: the first touch of a page costs more than copying it.
READY_BYTES = WORD_BYTES + (8 << 20)
# From linux/mman.h, since 5.14; the mmap module does not name them.
_POPULATE_READ, _POPULATE_WRITE = 22, 23

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def create(size: int) -> tuple[int, mmap.mmap]:
    """A descriptor to hand over, and the memory to write to; the caller closes the descriptor.

    Raises:
        EnvironmentProblem: this system gives none.
    """
    try:
        descriptor = os.memfd_create("banyan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (OSError, AttributeError) as error:
        raise EnvironmentProblem(
            f"This system gives no shared memory ({error}); workers of one host need Linux, or"
            f" connect them by TCP."
        ) from error
    try:
        os.ftruncate(descriptor, size)
        # A reader must not be ended by a writer that shortens what both have mapped.
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        memory = mmap.mmap(descriptor, size)
        _make_ready(memory, _POPULATE_WRITE)
        return descriptor, memory
    except (OSError, ValueError) as error:
        os.close(descriptor)
        raise EnvironmentProblem(
            f"{size} bytes of shared memory cannot be had: {error}."
        ) from error


def attach(descriptor: int, size: int) -> mmap.mmap:
    """Map what the other side handed over, for reading; the caller closes the descriptor.

    Raises:
        DamagedMessage: it is not what it should be.
    """
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
        if os.fstat(descriptor).st_size != size or not seals & fcntl.F_SEAL_SHRINK:
            raise DamagedMessage(f"The other worker shares memory that is not {size} sealed bytes.")
        memory = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
        _make_ready(memory, _POPULATE_READ)
        return memory
    except (OSError, ValueError) as error:
        raise DamagedMessage(f"The shared memory cannot be mapped: {error}.") from error


def _make_ready(memory: mmap.mmap, advice: int) -> None:
    """Map the first pages now; an older kernel does so page by page when they are used."""
    with contextlib.suppress(OSError):
        memory.madvise(advice, 0, min(READY_BYTES, len(memory)))


class Loans:
    """Parts of the other side's memory that arrays here refer to.

    Attributes:
        size: of the memory in bytes.
        heard: what the other side says at its beginning.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self.heard = HeardWords(memory)
        self.size = len(memory)
        # By the identity of the reference: the hash of a memoryview reads all its bytes.
        self._lent: dict[int, tuple[weakref.ref[memoryview], int, int]] = {}
        # Where each began, and its size.
        self._returned: deque[tuple[int, int]] = deque()
        self._returned_bytes = 0

    def lend(self, offset: int, size: int) -> Bytes:
        """The bytes of a message; given back when nothing refers to them any more."""
        region = np.frombuffer(self._memory, np.uint8, size, offset)
        # Every array made from this one keeps this memoryview, and nothing else does.
        base = region.base
        assert isinstance(base, memoryview), "np.frombuffer keeps its buffer in a memoryview"
        reference = weakref.ref(base, self._come_back)
        self._lent[id(reference)] = (reference, offset, size)
        return region

    def _come_back(self, reference: "weakref.ref[memoryview]") -> None:
        """Called by the garbage collector, in whatever thread: only atomic steps."""
        with contextlib.suppress(KeyError):
            _, offset, size = self._lent.pop(id(reference))
            self._returned.append((offset, size))
            self._returned_bytes += size

    @property
    def returned_bytes(self) -> int:
        """How much has come back and was not taken yet."""
        return self._returned_bytes if self._returned else 0

    def take_returned(self) -> list[int]:
        """Where the bytes began that came back since the last call."""
        offsets = []
        while self._returned:
            offset, size = self._returned.popleft()
            self._returned_bytes -= size
            offsets.append(offset)
        return offsets
