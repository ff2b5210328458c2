"""Compiled programs on disk: a small JSON file beside each shared object.

A program is found by the content that made it, before any pass runs: a warm start neither lowers
nor prints nor compiles. A damaged or unreadable entry counts as absent.
"""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from banyan.compiler.compiled import Manifest, StoredInput, StoredOutput
from banyan.compiler.executable import Argument
from banyan.compiler.ir.symbols import Expression, Quotient, Symbol
from banyan.compiler.ir.types import DType, Space, TensorType
from banyan.compiler.report import CompileReport, ExternUse
from banyan.compiler.targets.memory import Location, Memory, Slot

_logger = logging.getLogger(__name__)
_READ_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError)
_KINDS: Mapping[str, Callable[..., Any]] = {
    kind.__name__: kind
    for kind in (
        Manifest,
        StoredInput,
        StoredOutput,
        Argument,
        CompileReport,
        ExternUse,
        Location,
        Memory,
        Slot,
        TensorType,
        DType,
        Space,
        Expression,
        Symbol,
        Quotient,
    )
} | {type(Path()).__name__: Path}
"""What a manifest is made of."""


def program_key(graph_text: str, settings: str) -> str:
    """The name of the program for a captured graph, compiler settings and this compiler."""
    digest = hashlib.sha256()
    for part in (graph_text, settings, compiler_digest()):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:32]


def read_manifest(directory: Path, key: str) -> Manifest | None:
    """The program kept under `key`, or None."""
    path = _path(directory, key)
    try:
        manifest = _read(json.loads(path.read_text(encoding="utf-8")))
        if not isinstance(manifest, Manifest):
            raise TypeError(f"holds {type(manifest).__name__}")
    except FileNotFoundError:
        return None
    except _READ_ERRORS as error:
        _logger.warning("the kept program %s cannot be used and is made again: %r", path, error)
        return None
    return manifest if manifest.image.exists() else None


def keep_manifest(directory: Path, key: str, manifest: Manifest) -> None:
    """Keep a program; a disk that cannot be written costs the cache, not the run."""
    path = _path(directory, key)
    unfinished = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(_plain(manifest)), encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        _logger.warning("the compiled program is not kept, the next start compiles: %s", error)
        _remove(unfinished)


def forget_manifest(directory: Path, key: str, image: Path) -> None:
    """Drop an entry that turned out to be damaged."""
    _remove(_path(directory, key))
    _remove(image)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _logger.warning("cannot remove %s: %s", path, error)


def _path(directory: Path, key: str) -> Path:
    return directory / "programs" / f"{key}.json"


@cache
def compiler_digest() -> str:
    """Everything of this package that has a say in what a program looks like."""
    compiler = Path(__file__).parent
    native = compiler.parent / "devices" / "native"
    digest = hashlib.sha256()
    sources = (*compiler.rglob("*.py"), *compiler.rglob("*.h"), *compiler.rglob("*.cl"))
    files = [*sources, *native.glob("*.h")]
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """JSON of a value: a dataclass or enumeration is an object with its name as the only key."""
    name = type(value).__name__
    if name in _KINDS:
        if isinstance(value, Path):
            return {name: [str(value)]}
        if isinstance(value, Enum):
            return {name: [value.value]}
        return {name: [_plain(getattr(value, part)) for part in value.__slots__]}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _read(plain: Any) -> Any:
    if isinstance(plain, dict):
        ((name, parts),) = plain.items()
        return _KINDS[name](*map(_read, parts))
    return tuple(map(_read, plain)) if isinstance(plain, list) else plain
