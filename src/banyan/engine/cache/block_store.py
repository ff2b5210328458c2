"""Where the contents of evicted blocks are kept: in memory, on disk, or first one, then the other.

Blocks are found by a digest of all tokens up to their end and of who may share them, so contents
never change. What is kept is bounded; what was used longest ago goes first. A damaged file is
worth a warning and is computed again. Called by `block_spill`.
"""

import hashlib
import logging
import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from banyan.foundation.errors import InputError

_logger = logging.getLogger("banyan.engine")

_MAGIC = b"banyan-block-1\n"
_CHECK_BYTES = 32
_SUFFIX = ".block"


class BlockStore(Protocol):
    """Keeps bytes by digest for as long as there is room."""

    def __contains__(self, digest: bytes) -> bool:
        """Whether `take` is likely to find it; costs nothing."""
        ...

    def put(self, digest: bytes, content: bytes) -> None:
        """Keep the contents of a block."""
        ...

    def get(self, digest: bytes) -> bytes | None:
        """Return what was kept; None when it is gone or damaged."""
        ...

    def flush(self) -> None:
        """Move what would be lost with this process to where it is not, if there is such."""
        ...


class MemoryBlockStore:
    """Keeps blocks in the memory of this machine.

    Args:
        capacity_bytes: most that is kept.
        below: gets what no longer fits, if anything does.
    """

    def __init__(self, capacity_bytes: int, below: BlockStore | None = None) -> None:
        self._capacity_bytes = capacity_bytes
        self._below = below
        self._contents: OrderedDict[bytes, bytes] = OrderedDict()
        self._num_bytes = 0

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._contents or (self._below is not None and digest in self._below)

    def put(self, digest: bytes, content: bytes) -> None:
        """Keep a block, letting go of those used longest ago."""
        if digest in self._contents:
            self._contents.move_to_end(digest)
            return
        self._contents[digest] = content
        self._num_bytes += len(content)
        while self._num_bytes > self._capacity_bytes:
            self._drop_oldest()

    def get(self, digest: bytes) -> bytes | None:
        """Return a block from here or below."""
        content = self._contents.get(digest)
        if content is not None:
            self._contents.move_to_end(digest)
            return content
        return None if self._below is None else self._below.get(digest)

    def flush(self) -> None:
        """Hand all blocks down."""
        while self._contents and self._below is not None:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        digest, content = self._contents.popitem(last=False)
        self._num_bytes -= len(content)
        if self._below is not None:
            self._below.put(digest, content)


class DiskBlockStore:
    """Keeps each block in a file of its own; another process finds them again.

    Only the owner may read the files: they hold what was said.

    Args:
        directory: made when it is not there.
        capacity_bytes: most that is kept of this model.
        model_key: names the model, its quantisation and the format of the cache; the files of
            another model lie in another folder and are never read.

    Raises:
        InputError: the directory cannot be used.
    """

    def __init__(self, directory: Path, capacity_bytes: int, *, model_key: str) -> None:
        self._header = _MAGIC + hashlib.sha256(model_key.encode()).digest()
        self._directory = directory / hashlib.sha256(model_key.encode()).hexdigest()[:32]
        self._capacity_bytes = capacity_bytes
        self._is_failing = False
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = sorted(_scan(self._directory))
        except OSError as error:
            raise InputError(
                f"prefix_store={str(directory)!r} cannot be used: {error}; name a directory that "
                "can be written"
            ) from error
        self._sizes = OrderedDict((digest, size) for _, digest, size in found)
        self._num_bytes = sum(self._sizes.values())
        self._make_room()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._sizes

    def put(self, digest: bytes, content: bytes) -> None:
        """Write a block; a disk that is full or gone is worth one warning."""
        if digest in self._sizes:
            self._sizes.move_to_end(digest)
            return
        path = self._path(digest)
        unfinished = path.with_suffix(f".{os.getpid()}")
        try:
            with open(unfinished, "wb", opener=_for_owner_only) as file:
                file.write(self._header)
                file.write(_check(digest, content))
                file.write(content)
            unfinished.replace(path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            if not self._is_failing:
                _logger.warning("cached blocks cannot be kept in %s: %s", self._directory, error)
            self._is_failing = True
            return
        self._is_failing = False
        self._sizes[digest] = len(self._header) + _CHECK_BYTES + len(content)
        self._num_bytes += self._sizes[digest]
        self._make_room()

    def get(self, digest: bytes) -> bytes | None:
        """Read a block; a damaged one is removed."""
        if digest not in self._sizes:
            return None
        path = self._path(digest)
        try:
            found = path.read_bytes()
        except OSError as error:
            self._forget(digest, f"cannot be read ({error})")
            return None
        start = len(self._header) + _CHECK_BYTES
        content = found[start:]
        if not found.startswith(self._header):
            self._forget(digest, "belongs to another model or version")
        elif found[len(self._header) : start] != _check(digest, content):
            self._forget(digest, "is damaged")
        else:
            self._sizes.move_to_end(digest)
            with suppress(OSError):  # how recently it was used, for the next process
                os.utime(path)
            return content
        return None

    def flush(self) -> None:
        """Do nothing: everything is on disk."""

    def _path(self, digest: bytes) -> Path:
        return self._directory / (digest.hex() + _SUFFIX)

    def _make_room(self) -> None:
        while self._num_bytes > self._capacity_bytes:
            digest, size = self._sizes.popitem(last=False)
            self._num_bytes -= size
            with suppress(OSError):
                self._path(digest).unlink()

    def _forget(self, digest: bytes, why: str) -> None:
        _logger.warning("the cached block %s %s; it is computed again", self._path(digest), why)
        self._num_bytes -= self._sizes.pop(digest)
        with suppress(OSError):
            self._path(digest).unlink()


def _check(digest: bytes, content: bytes) -> bytes:
    """Catches files that were cut, changed or renamed."""
    return hashlib.sha256(digest + content).digest()


def _for_owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _scan(directory: Path) -> list[tuple[float, bytes, int]]:
    """When each block was used, its digest and size; what is no block is left alone."""
    found = []
    for entry in os.scandir(directory):
        name = entry.name.removesuffix(_SUFFIX)
        if name == entry.name or len(name) != 2 * _CHECK_BYTES:
            continue
        with suppress(ValueError, OSError):
            status = entry.stat()
            found.append((status.st_mtime, bytes.fromhex(name), status.st_size))
    return found
