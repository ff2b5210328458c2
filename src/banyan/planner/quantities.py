"""Quantities as people write them, with their units: "50ms", "4.8TB/s", "200Gbit/s", "990T".

A number without a unit is in the base unit (seconds, bytes, bytes a second, operations a second).
Everything read here is finite; what may not be zero is refused when it is. Pure.
"""

import math
import re
from collections.abc import Mapping
from decimal import Decimal

from banyan.foundation.errors import InputError

_WRITTEN = re.compile(r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(\S*)")
_MANY = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15}
_BINARY = {"ki": 2.0**10, "mi": 2.0**20, "gi": 2.0**30, "ti": 2.0**40}

_SECONDS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "\u00b5s": 1e-6, "ns": 1e-9, "min": 60.0}
_BYTES = {
    prefix + ending: size
    for prefix, size in (_MANY | _BINARY).items()
    for ending in (("b", "") if prefix not in _BINARY else ("b",))
}
# Here case tells bytes from bits: 25GB/s is eight times 25Gb/s.
_BYTES_PER_SECOND = {"": 1.0} | {
    spelled + ending: size / parts
    for prefix, size in (_MANY | _BINARY).items()
    for spelled in {prefix, prefix.capitalize()}
    for ending, parts in (("B/s", 1), ("b/s", 8), ("bit/s", 8), ("bps", 8))
}
_OPERATIONS = {
    prefix + ending: size
    for prefix, size in _MANY.items()
    for ending in ("", "flops", "flop/s", "ops", "op/s")
}
_PER_SECOND = {"": 1.0, "/s": 1.0, "/min": 1 / 60, "/h": 1 / 3600}
_PLAIN = {"": 1.0, "%": 0.01}
_WATTS = {"": 1.0, "w": 1.0, "kw": 1e3}


def read_seconds(value: object, name: str, *, zero: bool = False) -> float:
    """Read a time such as "50ms".

    Args:
        value: a number or a text; anything else is refused.
        name: what it is, in the error.
        zero: whether 0 will do.

    Raises:
        InputError: no such quantity; the sentence has an example of one.
    """
    return _read(value, name, _SECONDS, "a time such as 50ms, 2s or 5us", zero=zero)


def read_bytes(value: object, name: str) -> int:
    """Read an amount of memory above 0 such as "80GB"; raises as `read_seconds`."""
    return int(_read(value, name, _BYTES, "an amount of memory such as 80GB or 24GiB", least=1.0))


def read_bytes_per_second(value: object, name: str) -> float:
    """Read a rate above 0 such as "3.35TB/s" or "200Gbit/s"; raises as `read_seconds`."""
    return _read(value, name, _BYTES_PER_SECOND, "a rate such as 3.35TB/s or 200Gbit/s")


def read_operations(value: object, name: str) -> float:
    """Read operations a second above 0, such as "990T"; raises as `read_seconds`."""
    return _read(value, name, _OPERATIONS, "operations a second such as 990T or 1.5P")


def read_watts(value: object, name: str) -> float:
    """Read electric power such as 700 or "700W"; raises as `read_seconds`."""
    return _read(value, name, _WATTS, "watts such as 700 or 1.2kW", zero=True)


def read_per_second(value: object, name: str) -> float:
    """Read how often something comes, such as "10/s" or "90/min"; raises as `read_seconds`."""
    return _read(value, name, _PER_SECOND, "how often, such as 10/s or 90/min")


def read_share(value: object, name: str) -> float:
    """Read a share from 0 to 1, or in percent; raises as `read_seconds`."""
    share = _read(value, name, _PLAIN, "a share such as 0.5 or 50%", zero=True)
    if share > 1.0:
        raise InputError(f"{name}={value!r} is more than everything; write a share from 0 to 1")
    return share


def read_price(value: object, name: str) -> float:
    """Read an amount of money, 0 or more; raises as `read_seconds`."""
    return _read(value, name, {"": 1.0}, "an amount of money such as 2.5", zero=True)


def read_count(value: object, name: str, *, most: int) -> int:
    """Read a whole number from 1 to `most`.

    Raises:
        InputError: it is none, or out of this range.
    """
    if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InputError(f"{name}={shown(value)} cannot be used; write a number from 1 to {most}")
    return value


def shown(value: object) -> str:
    """Write a value for an error, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _read(
    value: object,
    name: str,
    units: Mapping[str, float],
    example: str,
    *,
    zero: bool = False,
    least: float = 0.0,
) -> float:
    quantity = _in_base_units(value, units)
    if quantity is None or not math.isfinite(quantity) or quantity < 0:
        raise InputError(f"{name}={shown(value)} cannot be used; write {example}")
    if (quantity == 0 and not zero) or quantity < least:
        raise InputError(f"{name}={shown(value)} is nothing; write {example}")
    return quantity


def _in_base_units(value: object, units: Mapping[str, float]) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, int | float):
            return float(value)
        found = _WRITTEN.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is None:
            return None
        unit = units.get(found[2] if units is _BYTES_PER_SECOND else found[2].lower())
        # Decimals, so that 5us is the number that 5e-6 is.
        return None if unit is None else float(Decimal(found[1]) * Decimal(repr(unit)))
    except ArithmeticError:
        return None
