"""Files as memory of the host: mapped, in huge pages where the system can, else copied to them.

Owns the choice between sharing a file's pages and copying it. Reading weights through small pages
costs about a tenth of the memory's bandwidth, and so of the speed of writing text.
"""

import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from banyan.devices.host_memory import HUGE_PAGE_BYTES, allocate_host_memory
from banyan.foundation.errors import EnvironmentProblem

_MADV_POPULATE_READ = 22
_COPY_FROM_BYTES = 64 * 1024 * 1024
_READERS = 4
_SMALLEST_HUGE_SHARE = 0.5
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def map_file(number: int, num_bytes: int) -> tuple[NDArray[np.uint8], bool]:
    """Show the first bytes of the open file `number` as a read-only array.

    The second result says whether the pages are the file's own, which all processes share. They
    are not where the file system gives no huge pages: then the file is copied to memory that has.

    Raises:
        OSError: it cannot be mapped.
    """
    mapping = mmap.mmap(number, num_bytes, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    # Before the first touch: pages that must be read from disk are then read as huge ones.
    _advise(mapping, getattr(mmap, "MADV_HUGEPAGE", None))
    mapped: NDArray[np.uint8] = np.frombuffer(mapping, np.uint8)
    # The beginning tells how the rest lies: a file to be copied should not be resident twice.
    beginning = min(num_bytes, _COPY_FROM_BYTES)
    _advise(mapping, _MADV_POPULATE_READ, beginning)
    if num_bytes >= _COPY_FROM_BYTES and _are_huge_pages_allowed():
        share = huge_share(int(mapped.ctypes.data), beginning)
        if share is not None and share < _SMALLEST_HUGE_SHARE:
            try:
                return _read_file(number, num_bytes), False
            except EnvironmentProblem:
                pass  # no memory for a copy: small pages are only slower
    _advise(mapping, _MADV_POPULATE_READ)
    return mapped, True


def _read_file(number: int, num_bytes: int) -> NDArray[np.uint8]:
    """Read the first bytes of a file into huge pages, several pieces at a time."""
    copied = allocate_host_memory(num_bytes).array(np.dtype(np.uint8), (num_bytes,))

    def read(start: int) -> None:
        stop = min(start + _COPY_FROM_BYTES, num_bytes)
        while start < stop:
            done = os.preadv(number, [copied[start:stop].data], start)
            if not done:
                raise OSError(f"the file ends at {start} and not at {num_bytes} bytes")
            start += done

    with ThreadPoolExecutor(_READERS) as readers:
        list(readers.map(read, range(0, num_bytes, _COPY_FROM_BYTES)))
    copied.flags.writeable = False
    return copied


def huge_share(address: int, num_bytes: int) -> float | None:
    """The share of a mapping that lies in huge pages, 0 to 1; None where the system hides it."""
    try:
        with Path("/proc/self/smaps").open(encoding="ascii") as lines:
            is_ours, huge = False, 0
            for line in lines:
                first = line.split(maxsplit=1)[0]
                if "-" in first and not first.endswith(":"):
                    if is_ours:
                        break
                    begin, end = (int(part, 16) for part in first.split("-"))
                    is_ours = begin <= address < end
                elif is_ours and first in {"FilePmdMapped:", "AnonHugePages:", "ShmemPmdMapped:"}:
                    huge += int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return huge / max(num_bytes, HUGE_PAGE_BYTES)


def _advise(mapping: mmap.mmap, advice: int | None, num_bytes: int | None = None) -> None:
    """Ask the system for something that it may not know; then it is only slower."""
    if advice is None:
        return
    try:
        mapping.madvise(advice, 0, len(mapping) if num_bytes is None else num_bytes)
    except OSError:
        return


def _are_huge_pages_allowed() -> bool:
    try:
        return "[never]" not in _HUGE_PAGES.read_text(encoding="ascii")
    except OSError:
        return False
