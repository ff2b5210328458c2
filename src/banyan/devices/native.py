"""Build C++ text into shared objects, once per content.

A shared object is kept on disk under the hash of everything that shaped it: source, flags, headers
and the compiler's own version. Two processes that want the same object build it once; a full disk
costs the cache, not the run.
"""

import errno
import fcntl
import hashlib
import os
import platform
import shutil
import struct
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from banyan.foundation.errors import CompilationFailed, CompilerMissing, StorageFull

CANDIDATES = ("g++", "clang++", "c++")
BASE_FLAGS = ("-std=c++17", "-shared", "-fPIC", "-pthread")
# No -ffast-math: linking a shared object with it switches the whole process to flush-to-zero.
OPTIMISED_FLAGS = (
    "-O3",
    "-fopenmp-simd",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fno-semantic-interposition",
    "-fno-exceptions",
)
_ELF_HEADER_BYTES = 64
_SECTION_TABLE_AT = 40
_SECTION_TABLE = struct.Struct("<Q10xHH")  # where it starts; bytes of an entry; entries
_STORAGE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C++ compiler that answered.

    Attributes:
        path: the program.
        version: its first line of `--version`; part of every cache key.
    """

    path: Path
    version: str


@dataclass(frozen=True, slots=True)
class Missing:
    """No C++ compiler; `reason` is a sentence that says how to get one."""

    reason: str


@dataclass(frozen=True, slots=True)
class SharedObject:
    """A built shared object.

    Attributes:
        path: the file to load.
        cached: whether an earlier build was found.
        seconds: wall time from question to answer.
    """

    path: Path
    cached: bool
    seconds: float


def find_compiler(command: str | None = None) -> Compiler | Missing:
    """Find the C++ compiler: `command` when given, else the first of g++, clang++, c++."""
    candidates = (command,) if command else CANDIDATES
    for candidate in candidates:
        found = shutil.which(candidate)
        if found is None:
            continue
        try:
            version = _run([found, "--version"]).stdout.partition("\n")[0]
        except OSError:
            continue
        if version:
            return Compiler(Path(found), version)
    return Missing(
        f"no C++ compiler was found (looked for {', '.join(candidates)}); install one, for example "
        "with `apt-get install g++`, or name one in BANYAN_CXX"
    )


def build_shared_object(
    source: str,
    *,
    flags: tuple[str, ...],
    cache_directory: Path,
    name: str,
    include_directories: Sequence[Path] = (),
    compiler: Compiler | None = None,
) -> SharedObject:
    """Compile `source` (C++17) to a shared object, or find the one built before.

    Args:
        source: the text of one translation unit.
        flags: compiler flags beyond `BASE_FLAGS`, for example `OPTIMISED_FLAGS` and those of an
            instruction set.
        cache_directory: where objects are kept; a folder `objects` is made inside.
        name: a readable beginning for the file's name.
        include_directories: searched for headers; their `*.h` files are part of the key.
        compiler: the compiler to use; by default the one `find_compiler` finds.

    Raises:
        CompilerMissing: no compiler.
        CompilationFailed: the compiler refused the text; quotes its first error.
        StorageFull: neither the cache nor the temporary folder can be written.
    """
    began = time.perf_counter()
    chosen = compiler or _require(find_compiler())
    key = _content_key(source, flags, include_directories, chosen)
    command = [
        str(chosen.path),
        *BASE_FLAGS,
        *flags,
        *(f"-I{path}" for path in include_directories),
    ]
    directory = cache_directory / "objects"
    try:
        path, cached = _build_in(directory, f"{name}-{key}", source, command)
    except OSError as error:
        if error.errno not in _STORAGE_ERRORS:
            raise
        directory = _temporary_directory(directory, error)
        path, cached = _build_in(directory, f"{name}-{key}", source, command)
    return SharedObject(path, cached, time.perf_counter() - began)


def is_whole(path: Path) -> bool:
    """Is the file there, and not cut off? Loading a shortened one would end the process.

    The table of sections ends an ELF file, and the header says where it lies; files of another
    kind are taken as they are.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_ELF_HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return False
    if platform.system() != "Linux":
        return size > 0
    if len(header) < _ELF_HEADER_BYTES or not header.startswith(b"\x7fELF"):
        return False
    start, entry_bytes, count = _SECTION_TABLE.unpack_from(header, _SECTION_TABLE_AT)
    return int(start) + int(entry_bytes) * int(count) <= size


def _require(found: Compiler | Missing) -> Compiler:
    if isinstance(found, Missing):
        raise CompilerMissing(found.reason)
    return found


def _content_key(
    source: str, flags: Sequence[str], include_directories: Sequence[Path], compiler: Compiler
) -> str:
    digest = hashlib.sha256()
    parts = [str(compiler.path), compiler.version, *BASE_FLAGS, *flags, source]
    for directory in include_directories:
        for header in sorted(directory.rglob("*.h")):
            parts += [header.name, header.read_text(encoding="utf-8")]
    for part in parts:
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:24]


def _build_in(directory: Path, stem: str, source: str, command: list[str]) -> tuple[Path, bool]:
    """Return the object's path and whether it was there already."""
    target = directory / f"{stem}.so"
    if is_whole(target):
        return target, True
    directory.mkdir(parents=True, exist_ok=True)
    with _only_one_process(directory / f"{stem}.lock"):
        if is_whole(target):
            return target, True
        text = directory / f"{stem}.cpp"
        text.write_text(source, encoding="utf-8")
        unfinished = directory / f"{stem}.{os.getpid()}.tmp"
        try:
            _compile(command, text, unfinished)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    return target, False


def _compile(command: list[str], text: Path, target: Path) -> None:
    result = _run([*command, "-o", str(target), str(text)])
    if result.returncode == 0:
        return
    if os.strerror(errno.ENOSPC) in result.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
    lines = result.stderr.splitlines()
    first = next((line for line in lines if "error" in line), lines[0] if lines else "no message")
    raise CompilationFailed(f"{command[0]} refused {text}: {first.strip()}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # Messages are matched as text, so the compiler must speak English whatever the user's locale.
    english = ["env", "LC_ALL=C", *command]
    return subprocess.run(english, capture_output=True, text=True, check=False)


@contextmanager
def _only_one_process(lock: Path) -> Iterator[None]:
    """Hold an exclusive lock on `lock`; the kernel drops it if this process dies."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _temporary_directory(directory: Path, error: OSError) -> Path:
    """A fresh folder to build in when the cache cannot be written; it is left to the system."""
    warnings.warn(
        f"cannot keep compiled programs in {directory} ({error.strerror}); building in a temporary "
        "folder, so the next start compiles again",
        RuntimeWarning,
        stacklevel=3,
    )
    try:
        return Path(tempfile.mkdtemp(prefix="banyan-"))
    except OSError as second:
        raise StorageFull(
            f"neither {directory} nor the temporary folder can be written ({second.strerror}); "
            "free some space or set BANYAN_CACHE to a folder on another disk"
        ) from second
