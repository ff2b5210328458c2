"""The words of the kit: a check and what it found, a bench to run checks on, a report.

A difference is the largest |a - b|, divided by the largest |b| where that is above 1: an error
relative to the size of the results, and absolute for small ones.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.ir.types import DType
from banyan.compiler.options import CompileOptions
from banyan.devices.device import Device

Array = NDArray[Any]
Status = Literal["verified", "emulated", "described"]
Area = Literal["operators", "models", "memory", "launches", "limits", "determinism", "decoder"]
AREAS: tuple[Area, ...] = (
    "memory",
    "limits",
    "launches",
    "operators",
    "models",
    "determinism",
    "decoder",
)
"""In the order in which they are run: what is simple first, since the rest needs it."""

TOLERANCES: Mapping[DType, float] = {
    DType.FLOAT32: 1e-4,
    DType.BFLOAT16: 2e-2,
    DType.FLOAT16: 4e-3,
}
"""The largest difference from the interpreter, by the narrowest type on the way; whole numbers and
flags must be equal. Sums may be taken in any order, and bfloat16 has 8 bits: two roundings."""


@dataclass(frozen=True, slots=True)
class Check:
    """Attributes:
    area: what it is about.
    name: which case, with its sizes.
    passed: whether the device did what it must.
    found: the numbers, or what went wrong, in a few words.
    """

    area: Area
    name: str
    passed: bool
    found: str


@dataclass(frozen=True, slots=True)
class Bench:
    """Attributes:
    device: under test.
    options: how programs are compiled for it.
    runs_programs: False for a device that only counts or predicts.
    """

    device: Device
    options: CompileOptions
    runs_programs: bool = True


Cases = Callable[[Bench], Iterator[Check]]


@dataclass(frozen=True, slots=True)
class ConformanceReport:
    """Attributes:
    device: its name.
    model: the maker's name of the chip.
    target: the printer of its programs.
    checks: everything that was tried, in order.
    status: the one word for the support matrix.
    """

    device: str
    model: str
    target: str
    checks: tuple[Check, ...]
    status: Status

    @property
    def failures(self) -> tuple[Check, ...]:
        """What did not pass."""
        return tuple(check for check in self.checks if not check.passed)


def difference(found: Array, wanted: Array) -> float:
    """How far apart two results are, as the module says; infinite where one is not finite.

    The same infinity or NaN at the same place is no difference.
    """
    left, right = (np.asarray(value, np.float64) for value in (found, wanted))
    if left.shape != right.shape:
        return float("inf")
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    if same.all():
        return 0.0
    if not (np.isfinite(left) | same).all() or not (np.isfinite(right) | same).all():
        return float("inf")
    largest = float(np.abs(right[np.isfinite(right)]).max(initial=0.0))
    return float(np.abs(left[~same] - right[~same]).max()) / max(1.0, largest)


def compare(area: Area, name: str, found: Array, wanted: Array, tolerance: float) -> Check:
    """Check a result against the interpreter's; whole numbers and flags must be equal."""
    is_exact = wanted.dtype.kind in "iub"
    allowed = 0.0 if is_exact else tolerance
    if found.shape != wanted.shape:
        said = f"has shape {list(found.shape)}, the interpreter's has {list(wanted.shape)}"
        return Check(area, name, False, said)
    error = difference(found, wanted)
    said = f"differs by {error:.2e}, {allowed:.0e} is allowed"
    if error > allowed:
        said += _worst_place(found, wanted)
    return Check(area, name, error <= allowed, said)


def _worst_place(found: Array, wanted: Array) -> str:
    left, right = (np.asarray(value, np.float64) for value in (found, wanted))
    with np.errstate(invalid="ignore"):
        apart = np.nan_to_num(np.abs(left - right), nan=np.inf)
    where = np.unravel_index(int(apart.argmax()), apart.shape)
    place = [int(i) for i in where]
    return f"; at {place} the device has {left[where]:g}, the interpreter {right[where]:g}"


def must_refuse(area: Area, name: str, errors: tuple[type[Exception], ...], act: Any) -> Check:
    """Check that something is refused with one of our errors, and not done or worse."""
    try:
        act()
    except errors as error:
        return Check(area, name, True, f"refused: {error}")
    # Whatever a driver throws is a finding of the kit.
    except Exception as error:
        return Check(area, name, False, f"failed with {type(error).__name__}: {first_line(error)}")
    return Check(area, name, False, "was done; it must be refused")


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
