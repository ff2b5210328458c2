"""PoCL for tests: its cache under build/, and a name for processors that it is too old to know.

PoCL asks LLVM for the processor's name. On one that is newer than its LLVM it gets "generic", which
its own compiler then refuses (pocl issue 1049). Writing a name that it knows into the description
of its device lets every test run there. This is done in memory of the test's process only.
"""

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from banyan.devices.opencl import OpenClDevice
from banyan.devices.opencl_driver import find_chips
from banyan.devices.opencl_limits import OpenClLimits
from banyan.foundation.errors import EnvironmentProblem

CACHE = Path(__file__).parent.parent / "build" / "test-cache" / "pocl"
_KNOWN_PROCESSOR = ctypes.create_string_buffer(b"x86-64-v3")
_UNKNOWN = b"generic\0"
_SEARCHED_BYTES = 1024


def prepare_pocl() -> None:
    """Call before the first OpenCL call of a process; does nothing without pyopencl."""
    os.environ.setdefault("POCL_CACHE_DIR", str(CACHE))
    Path(os.environ["POCL_CACHE_DIR"]).mkdir(parents=True, exist_ok=True)
    try:
        import pyopencl  # noqa: PLC0415
    except ImportError:
        return
    for platform in pyopencl.get_platforms():
        if platform.name == "Portable Computing Language":
            for chip in platform.get_devices():
                _name_processor(chip)


def _name_processor(chip: Any) -> None:
    memory = os.open("/proc/self/mem", os.O_RDWR)
    try:
        described = os.pread(memory, _SEARCHED_BYTES, chip.int_ptr)
        for offset in range(0, len(described), 8):
            (pointer,) = struct.unpack_from("<Q", described, offset)
            if _reads(memory, pointer) == _UNKNOWN:
                known = struct.pack("<Q", ctypes.addressof(_KNOWN_PROCESSOR))
                os.pwrite(memory, known, chip.int_ptr + offset)
    finally:
        os.close(memory)


def _reads(memory: int, address: int) -> bytes:
    """What lies at an address; nothing where nothing is mapped."""
    try:
        return os.pread(memory, len(_UNKNOWN), address) if 0 < address < 1 << 47 else b""
    except OSError:
        return b""


def open_pocl(lanes: int | None = None) -> Iterator[OpenClDevice]:
    """The first OpenCL device, for a fixture to yield from; skips where there is none.

    `lanes` makes it run groups of so many work-items, as a GPU would.
    """
    prepare_pocl()
    try:
        chip = find_chips()[0]
    except (EnvironmentProblem, IndexError) as error:
        pytest.skip(f"no OpenCL device: {error}")
    claimed = None if lanes is None else OpenClLimits(lanes, 64 * 1024)
    device = OpenClDevice("opencl:0", chip, CACHE.parent, claimed)
    yield device
    device.close()


def environment_of_children() -> dict[str, str]:
    """What a child process needs so that PoCL works there as it does here."""
    root = Path(__file__).parent.parent
    paths = [root / "tests" / "pocl_site", root, root / "src"]
    return {"PYTHONPATH": os.pathsep.join(map(str, paths))}
