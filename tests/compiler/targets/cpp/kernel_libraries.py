"""Shared objects and foreign executables whose C functions tests call with NumPy arrays."""

import ctypes
import hashlib
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from banyan.compiler.targets.cpp.registry import KERNEL_DIRECTORY
from banyan.devices.native import OPTIMISED_FLAGS

Array = NDArray[Any]
CROSS_COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


Argument: TypeAlias = "Array | int | None | Sequence[Array | None]"


class Library(Protocol):
    """C functions of pointers and 64-bit integers."""

    def call(self, name: str, *arguments: Argument) -> None:
        """Call one; arrays are passed as the address of their first element, several as an array
        of such addresses, through which nothing is written.
        """
        ...

    def close(self) -> None:
        """End what runs for it."""
        ...


class NativeLibrary:
    """A shared object in this process."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))

    def call(self, name: str, *arguments: Argument) -> None:
        getattr(self.library, name)(*(_native(argument) for argument in arguments))

    def number(self, name: str) -> int:
        """The result of a function without arguments."""
        function = getattr(self.library, name)
        function.restype = ctypes.c_int64
        return int(function())

    def close(self) -> None:
        """Nothing runs."""


def _native(argument: Argument) -> Any:
    if argument is None:
        return None
    if isinstance(argument, int):
        return ctypes.c_int64(argument)
    if isinstance(argument, np.ndarray):
        return ctypes.c_void_p(argument.ctypes.data)
    found = [None if part is None else part.ctypes.data for part in argument]
    return (ctypes.c_void_p * len(found))(*found)


_SERVER = """
#include <stdio.h>
#include <stdlib.h>

namespace {

struct Function { const char* name; void* entry; };
const Function functions[] = {FUNCTIONS};

int64_t number() {
  int64_t value;
  if (fread(&value, sizeof value, 1, stdin) != 1) exit(0);
  return value;
}

}  // namespace

int64_t memory(int64_t size) {
  void* found = aligned_alloc(64, (size + 127) / 64 * 64);
  if (fread(found, 1, size, stdin) != static_cast<size_t>(size)) exit(1);
  return reinterpret_cast<int64_t>(found);
}

// Addresses of `count` pieces, each a size and its bytes, or -1 for none.
int64_t pieces(int64_t count) {
  int64_t* addresses = static_cast<int64_t*>(calloc(count, sizeof(int64_t)));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t size = number();
    if (size >= 0) addresses[i] = memory(size);
  }
  return reinterpret_cast<int64_t>(addresses);
}

// Reads calls: the function's number, then 12 arguments: a size and that many bytes, or -1 and a
// number, or -2 and how many pieces. Answers with the bytes after the call. Pieces are not freed.
int main() {
  for (;;) {
    const int64_t chosen = number();
    int64_t values[12] = {}, sizes[12];
    for (int i = 0; i < 12; ++i) {
      sizes[i] = number();
      values[i] = sizes[i] >= 0 ? memory(sizes[i]) : sizes[i] == -1 ? number() : pieces(number());
    }
    typedef void (*Entry)(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                          int64_t, int64_t, int64_t, int64_t);
    reinterpret_cast<Entry>(functions[chosen].entry)(
        values[0], values[1], values[2], values[3], values[4], values[5], values[6], values[7],
        values[8], values[9], values[10], values[11]);
    for (int i = 0; i < 12; ++i) {
      if (sizes[i] < 0) continue;
      fwrite(reinterpret_cast<void*>(values[i]), 1, sizes[i], stdout);
      free(reinterpret_cast<void*>(values[i]));
    }
    fflush(stdout);
  }
}
"""


class EmulatedLibrary:
    """An executable for 64-bit ARM that runs under qemu and serves calls on its standard input."""

    def __init__(
        self, source: str, names: Sequence[str], flags: Sequence[str], folder: Path
    ) -> None:
        self.names = list(names)
        table = ", ".join(f'{{"{name}", reinterpret_cast<void*>(&{name})}}' for name in names)
        command = [CROSS_COMPILER, "-std=c++17", "-static", *OPTIMISED_FLAGS, *flags]
        command += ["-Wall", "-Wextra", "-Werror", f"-I{KERNEL_DIRECTORY}"]
        image = _server(source + _SERVER.replace("{FUNCTIONS}", f"{{{table}}}"), command, folder)
        self.process = subprocess.Popen(
            [EMULATOR, "-cpu", "max", str(image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def call(self, name: str, *arguments: Argument) -> None:
        asked, answered = self._pipes()
        asked.write(struct.pack("<q", self.names.index(name)))
        for argument in (*arguments, *[None] * (12 - len(arguments))):
            if isinstance(argument, int) or argument is None:
                asked.write(struct.pack("<qq", -1, argument or 0))
            elif isinstance(argument, np.ndarray):
                asked.write(_bytes(argument))
            else:
                asked.write(struct.pack("<qq", -2, len(argument)))
                asked.write(b"".join(_bytes(part) for part in argument))
        asked.flush()
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                size = _extent(argument)
                found = answered.read(size)
                assert len(found) == size, f"{name} ended the emulated process"
                ctypes.memmove(argument.ctypes.data, found, size)

    def close(self) -> None:
        """End the process."""
        asked, answered = self._pipes()
        asked.close()
        self.process.wait()
        answered.close()

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        return self.process.stdin, self.process.stdout


def _server(source: str, command: Sequence[str], folder: Path) -> Path:
    """Build an executable, or find the one built before from the same text and headers."""
    headers = (path.read_text() for path in sorted(KERNEL_DIRECTORY.rglob("*.h")))
    digest = hashlib.sha256("\0".join([*command, source, *headers]).encode()).hexdigest()[:24]
    image = folder / "objects" / f"server-{digest}"
    if image.exists():
        return image
    image.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=image.parent) as own:
        text, built = Path(own) / "server.cpp", Path(own) / "server"
        text.write_text(source)
        subprocess.run([*command, "-o", str(built), str(text)], check=True)
        built.replace(image)
    return image


def _bytes(array: Array | None) -> bytes:
    """The size of a view and what lies there."""
    if array is None:
        return struct.pack("<q", -1)
    size = _extent(array)
    return struct.pack("<q", size) + ctypes.string_at(array.ctypes.data, size)


def _extent(array: Array) -> int:
    """Bytes from the first element of a view through its last."""
    steps = zip(array.shape, array.strides, strict=True)
    return int(sum((size - 1) * stride for size, stride in steps)) + array.itemsize


def require_arm_emulation() -> None:
    """Skip the test where 64-bit ARM cannot be compiled for and run."""
    for tool, package in ((CROSS_COMPILER, "g++-aarch64-linux-gnu"), (EMULATOR, "qemu-user")):
        if shutil.which(tool) is None:
            pytest.skip(f"NEON needs {tool}, of Debian's package {package}")
