"""Packed weights on disk, as they lie in memory, so that the next start packs nothing.

An entry is one file, found by a key of everything that made its bytes. It is mapped, not read:
all processes that serve the same model share its pages, and a restart finds them where the last
process left them. A damaged entry counts as absent, and a disk that cannot be written costs the
cache, never the start.

The file: 8 bytes magic, 8 bytes length of a JSON header, the header, and from 2 MiB on the data.
The header holds the size of the file and, for each piece, where it lies and a digest of its ends.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from banyan.devices.file_memory import map_file
from banyan.foundation.byte_sizes import show_bytes

_logger = logging.getLogger(__name__)

Bytes: TypeAlias = NDArray[np.uint8]

_MAGIC = b"BNYPACK1"
_DATA_START = 2 * 1024 * 1024
_PAGE = 4096
# Large writes at round places leave the file in huge pages of the page cache.
_WRITE_BYTES = 64 * 1024 * 1024
_ABANDONED_SECONDS = 3600.0
_READ_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """An entry in memory.

    Attributes:
        pieces: the bytes of each weight, by the number of its input; read-only.
        num_bytes: of the whole file, all of which is mapped.
        is_shared: whether the pages are those of the file; else they are a copy in huge pages.
    """

    pieces: Mapping[int, Bytes]
    num_bytes: int
    is_shared: bool


@dataclass(frozen=True, slots=True)
class PackedCache:
    """The entries below a folder.

    Attributes:
        directory: made when the first entry is kept.
        limit_bytes: of all entries together; the least recently used go first.
        smallest_bytes: less than this is not worth a file.
    """

    directory: Path
    limit_bytes: int
    smallest_bytes: int

    def open(self, key: str) -> PackedWeights | None:
        """Map the entry under `key`, or None."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                header = _read_header(file.read(_DATA_START))
                if header["key"] != key or header["num_bytes"] != os.fstat(file.fileno()).st_size:
                    raise ValueError("it was cut off, or is another one's")
                memory, is_shared = map_file(file.fileno(), header["num_bytes"])
            pieces = {
                int(number): _checked(memory[start : start + size], digest)
                for number, start, size, digest in header["pieces"]
            }
            os.utime(path)  # the least recently used go first
        except FileNotFoundError:
            return None
        except _READ_ERRORS as error:
            _logger.warning("the packed weights %s cannot be used: %s; packing anew", path, error)
            return None
        return PackedWeights(pieces, header["num_bytes"], is_shared)

    def keep(self, key: str, families: Sequence[Sequence[tuple[int, Bytes]]]) -> bool:
        """Keep packed weights under `key`; false when they are not kept.

        Args:
            key: names everything that made the bytes.
            families: numbers and bytes of weights; those of one family lie in one piece.
        """
        pieces, num_bytes = _lay_out(families)
        if num_bytes - _DATA_START < self.smallest_bytes or num_bytes > self.limit_bytes:
            return False
        path = self._path(key)
        unfinished = path.with_suffix(f".{os.getpid()}.part")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.directory).free
            if free < 2 * num_bytes:
                _logger.warning(
                    "packed weights of %s are not kept: %s is free on the disk of %s",
                    show_bytes(num_bytes),
                    show_bytes(free),
                    self.directory,
                )
                return False
            header = {"key": key, "num_bytes": num_bytes, "pieces": [p.row() for p in pieces]}
            _write(unfinished, json.dumps(header).encode(), pieces, num_bytes)
            unfinished.replace(path)
        except OSError as error:
            _logger.warning("packed weights are not kept, the next start packs again: %s", error)
            return False
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
        self._evict(spare=path)
        return True

    def _path(self, key: str) -> Path:
        return self.directory / f"{key}.packed"

    def _evict(self, *, spare: Path) -> None:
        """Delete what was used longest ago until the rest is within the limit."""
        total = 0
        for path, used, num_bytes in sorted(self._entries(), key=lambda entry: -entry[1]):
            total += num_bytes
            if path != spare and total > self.limit_bytes:
                _logger.info("deleting the packed weights %s, last used %.0f", path, used)
                with suppress(OSError):
                    path.unlink()
                total -= num_bytes

    def _entries(self) -> Iterator[tuple[Path, float, int]]:
        """Path, time of the last use and size; what a killed process left behind is deleted."""
        for path in self.directory.iterdir():
            with suppress(OSError):
                found = path.stat()
                if path.suffix == ".packed":
                    yield path, found.st_mtime, found.st_size
                elif path.suffix == ".part" and time.time() - found.st_mtime > _ABANDONED_SECONDS:
                    path.unlink()


@dataclass(frozen=True, slots=True)
class _Piece:
    """A weight and where it goes."""

    number: int
    start: int
    content: Bytes

    def row(self) -> list[Any]:
        return [self.number, self.start, self.content.nbytes, _digest(self.content)]


def packed_key(*parts: str) -> str:
    """The name of an entry; each part tells of something that has a say in the bytes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:40]


def _lay_out(families: Sequence[Sequence[tuple[int, Bytes]]]) -> tuple[list[_Piece], int]:
    """Place every weight; gives the pieces in order and the size of the file."""
    pieces, end = [], _DATA_START
    for family in families:
        end = -(-end // _PAGE) * _PAGE
        for number, content in family:
            pieces.append(_Piece(number, end, content))
            end += content.nbytes
    return pieces, end


def _write(path: Path, header: bytes, pieces: Sequence[_Piece], num_bytes: int) -> None:
    if len(header) + 16 > _DATA_START:
        raise OSError(f"a header of {len(header)} bytes for {len(pieces)} weights")
    with path.open("wb", buffering=0) as file:
        with suppress(OSError, AttributeError):
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        _write_all(file.fileno(), 0, _MAGIC + len(header).to_bytes(8, "little") + header)
        for start in range(_DATA_START, num_bytes, _WRITE_BYTES):
            content = _stretch(pieces, start, min(start + _WRITE_BYTES, num_bytes))
            _write_all(file.fileno(), start, content.data)
        os.truncate(file.fileno(), num_bytes)
        os.fsync(file.fileno())


def _stretch(pieces: Sequence[_Piece], start: int, stop: int) -> Bytes:
    """The bytes of the file from `start` to `stop`."""
    made = np.zeros((stop - start,), np.uint8)
    for piece in pieces:
        first, last = max(start, piece.start), min(stop, piece.start + piece.content.nbytes)
        if first < last:
            made[first - start : last - start] = piece.content[
                first - piece.start : last - piece.start
            ]
    return made


def _write_all(number: int, start: int, content: "bytes | memoryview") -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(number, view[:_WRITE_BYTES], start)
        view, start = view[written:], start + written


def _read_header(beginning: bytes) -> dict[str, Any]:
    length = int.from_bytes(beginning[8:16], "little")
    if beginning[:8] != _MAGIC or length > len(beginning) - 16:
        raise ValueError("it does not begin as such a file does")
    header = json.loads(beginning[16 : 16 + length])
    if not isinstance(header, dict):
        raise TypeError(f"its header is {type(header).__name__}")
    return header


def _digest(content: Bytes) -> str:
    """Digest both ends: a file that was not written whole shows there, at the cost of two pages."""
    digest = hashlib.sha256(content[:_PAGE].tobytes())
    digest.update(content[-_PAGE:].tobytes())
    return digest.hexdigest()[:16]


def _checked(content: Bytes, digest: str) -> Bytes:
    if _digest(content) != digest:
        raise ValueError("it is damaged")
    return content
