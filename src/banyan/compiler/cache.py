"""Compiled programs on disk: a small JSON file beside each shared object.

A program is found by the content that made it, before any pass runs: a warm start neither lowers
nor prints nor compiles. A damaged or unreadable entry counts as absent.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from banyan.compiler.compiled import Manifest, StoredInput, StoredOutput
from banyan.compiler.executable import Argument
from banyan.compiler.ir.symbols import Dim, Expression, Quotient, Symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.report import CompileReport, ExternUse
from banyan.compiler.targets.memory import Location, Memory, Slot

_logger = logging.getLogger(__name__)
_READ_ERRORS = (OSError, ValueError, KeyError, TypeError, IndexError)


def program_key(graph_text: str, settings: str) -> str:
    """The name of the program for a captured graph, compiler settings and this compiler."""
    digest = hashlib.sha256()
    for part in (graph_text, settings, _sources_digest()):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:32]


def read_manifest(directory: Path, key: str) -> Manifest | None:
    """The program kept under `key`, or None."""
    path = _path(directory, key)
    try:
        manifest = _manifest(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except _READ_ERRORS as error:
        _logger.warning("the kept program %s cannot be used and is made again: %r", path, error)
        return None
    return manifest if manifest.image.exists() else None


def keep_manifest(directory: Path, key: str, manifest: Manifest) -> None:
    """Keep a program; a disk that cannot be written costs the cache, not the run."""
    path = _path(directory, key)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
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
def _sources_digest() -> str:
    """Everything of this package that has a say in what a program looks like."""
    compiler = Path(__file__).parent
    native = compiler.parent / "devices" / "native"
    digest = hashlib.sha256()
    sources = (*compiler.rglob("*.py"), *compiler.rglob("*.h"), *compiler.rglob("*.cl"))
    files = [*sources, *native.glob("*.h")]
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _plain(manifest: Manifest) -> dict[str, Any]:
    return {
        "inputs": [
            [_argument(i.argument), _type(i.type), i.packing, i.is_aligned, i.behind]
            for i in manifest.inputs
        ],
        "outputs": [
            [_argument(o.argument), o.location.memory.value, o.location.index]
            for o in manifest.outputs
        ],
        "memories": [_type(kind) for kind in manifest.memories],
        "symbols": list(manifest.symbols),
        "slots": [[_dim(slot.num_bytes), slot.first, slot.last] for slot in manifest.slots],
        "entries": list(manifest.entries),
        "scratch_bytes": manifest.scratch_bytes,
        "image": str(manifest.image),
        "report": manifest.report.as_dict(),
    }


def _manifest(plain: Mapping[str, Any]) -> Manifest:
    report = dict(plain["report"])
    report["externs"] = tuple(ExternUse(**use) for use in report["externs"])
    return Manifest(
        inputs=tuple(
            StoredInput(_read_argument(argument), _read_type(kind), packing, is_aligned, behind)
            for argument, kind, packing, is_aligned, behind in plain["inputs"]
        ),
        outputs=tuple(
            StoredOutput(_read_argument(argument), Location(Memory(memory), index))
            for argument, memory, index in plain["outputs"]
        ),
        memories=tuple(_read_type(kind) for kind in plain["memories"]),
        symbols=tuple(plain["symbols"]),
        slots=tuple(Slot(_read_dim(size), first, last) for size, first, last in plain["slots"]),
        entries=tuple(plain["entries"]),
        scratch_bytes=int(plain["scratch_bytes"]),
        image=Path(plain["image"]),
        report=CompileReport(**report),
    )


def _argument(argument: Argument) -> list[Any]:
    return [argument.name, _type(argument.type), argument.role]


def _read_argument(plain: list[Any]) -> Argument:
    name, kind, role = plain
    return Argument(str(name), _read_type(kind), str(role))


def _type(kind: TensorType) -> list[Any]:
    return [kind.dtype.value, [_dim(size) for size in kind.shape]]


def _read_type(plain: list[Any]) -> TensorType:
    dtype, shape = plain
    return TensorType(tuple(_read_dim(size) for size in shape), DType(dtype))


def _dim(dim: Dim) -> Any:
    """A size as plain values: a number, or [[factor, [atom, ...]], ...]."""
    if isinstance(dim, int):
        return dim
    return [[factor, [_atom(atom) for atom in monomial]] for monomial, factor in dim.terms]


def _atom(atom: Symbol | Quotient) -> Any:
    if isinstance(atom, Symbol):
        return [atom.name, atom.minimum, atom.maximum]
    return {"of": _dim(atom.numerator), "by": atom.denominator}


def _read_dim(plain: Any) -> Dim:
    if isinstance(plain, int):
        return plain
    total: Dim = 0
    for factor, atoms in plain:
        term: Dim = int(factor)
        for atom in atoms:
            term = term * _read_atom(atom)
        total = total + term
    return total


def _read_atom(plain: Any) -> Dim:
    if isinstance(plain, dict):
        return _read_dim(plain["of"]) // int(plain["by"])
    name, minimum, maximum = plain
    return Expression((((Symbol(str(name), int(minimum), int(maximum)),), 1),))
