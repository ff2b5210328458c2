"""Checks of a device's memory: zeroed, copied in and out whole and in parts, and bounded."""

from collections.abc import Callable, Iterator

import numpy as np

from banyan.devices.device import Buffer, Program
from banyan.engine.workbench.conformance.checks import Array, Bench, Check, must_refuse
from banyan.foundation.errors import BanyanError

SIZES = (1, 3, 64, 4095, 1 << 20)
_UNREASONABLE = 1 << 50
_DTYPES = (np.float32, np.int64, np.uint8)


def memory_checks(bench: Bench) -> Iterator[Check]:
    """Allocate, copy, adopt."""
    yield from (_zeroed(bench, size) for size in SIZES)
    yield from (_round_trip(bench, size) for size in SIZES)
    yield from (_typed(bench, np.dtype(dtype)) for dtype in _DTYPES)
    yield _part(bench)
    yield _adopted(bench)
    yield _empty(bench)


def limit_checks(bench: Bench) -> Iterator[Check]:
    """What a device must refuse in a sentence, and survive."""
    device = bench.device
    small, large, half = device.allocate(64), np.zeros(65, np.uint8), np.zeros(33, np.uint8)
    acts: dict[str, Callable[[], object]] = {
        "a pebibyte of memory": lambda: device.allocate(_UNREASONABLE),
        "memory of -1 bytes": lambda: device.allocate(-1),
        "65 bytes into 64": lambda: device.copy_in(large, small),
        "65 bytes out of 64": lambda: device.copy_out(small, large),
        "33 bytes behind byte 32 of 64": lambda: device.copy_in(half, small, 32),
    }
    if bench.runs_programs:
        missing = Program("missing", "none", None, "banyan_run", 1, 0, 0)
        acts["a program without an image"] = lambda: device.load(missing)
    for name, act in acts.items():
        yield must_refuse("limits", name, (BanyanError,), act)


def _zeroed(bench: Bench, size: int) -> Check:
    found = np.full(size, 7, np.uint8)
    bench.device.copy_out(bench.device.allocate(size), found)
    wrong = int(np.count_nonzero(found))
    return Check("memory", f"{size} bytes are zero", wrong == 0, f"{wrong} bytes are not zero")


def _round_trip(bench: Bench, size: int) -> Check:
    given = np.random.default_rng(size).integers(0, 256, size).astype(np.uint8)
    buffer = bench.device.allocate(size)
    bench.device.copy_in(given, buffer)
    bench.device.synchronize()
    return _same(f"{size} bytes in and out", _read(bench, buffer, given), given)


def _typed(bench: Bench, dtype: np.dtype[np.generic]) -> Check:
    given = np.arange(30).reshape(5, 6).astype(dtype)[:, ::2]
    buffer = bench.device.allocate(given.nbytes)
    bench.device.copy_in(np.ascontiguousarray(given), buffer)
    found = np.zeros(given.shape, dtype)
    bench.device.copy_out(buffer, found)
    return _same(f"an array of {dtype}", found, given)


def _part(bench: Bench) -> Check:
    buffer = bench.device.allocate(64)
    part = np.arange(1, 8, dtype=np.uint8)
    bench.device.copy_in(part, buffer, 13)
    wanted = np.zeros(64, np.uint8)
    wanted[13:20] = part
    found = np.zeros(30, np.uint8)
    bench.device.copy_out(buffer, found, 10)
    return _same("7 bytes at byte 13, read from byte 10", found, wanted[10:40])


def _adopted(bench: Bench) -> Check:
    given = np.arange(1000, dtype=np.int32)
    return _same(
        "an array that is taken over", _read(bench, bench.device.adopt(given), given), given
    )


def _empty(bench: Bench) -> Check:
    buffer = bench.device.allocate(0)
    bench.device.copy_in(np.zeros(0, np.uint8), buffer)
    return _same("no bytes", _read(bench, buffer, np.zeros(0, np.uint8)), np.zeros(0, np.uint8))


def _read(bench: Bench, buffer: Buffer, like: Array) -> Array:
    found = np.zeros_like(like)
    bench.device.copy_out(buffer, found)
    return found


def _same(name: str, found: Array, wanted: Array) -> Check:
    wrong = int(np.count_nonzero(found != wanted))
    return Check("memory", name, wrong == 0, f"{wrong} of {wanted.size} values differ")
