"""Numbers as vendors' tools print them: "65536 MiB", "41C", "76.50 W", "[N/A]".

A word that says "not known" is None. Anything else that is not a number is an error: a format
that is not understood must not pass for a chip without memory.
"""

import math
import re

_NUMBER = re.compile(r"([+-]?\d{1,18}(?:\.\d{1,18})?)\s*([A-Za-z%]*)")
_UNKNOWN = {
    "", "-", "n/a", "na", "[n/a]", "not supported", "[not supported]", "not available", "unknown",
    "[unknown]", "[unknown error]", "[insufficient permissions]", "err!", "[gpu is lost]",
}  # fmt: skip
_BYTES = {
    "b": 1, "kb": 1024, "kib": 1024, "mb": 1024**2, "mib": 1024**2, "gb": 1024**3, "gib": 1024**3,
}  # fmt: skip
_PERCENT = {"": 1.0, "%": 1.0}
_DEGREES = {"": 1.0, "c": 1.0}
_WATTS = {"": 1.0, "w": 1.0, "mw": 1e-3}


def read_bytes(value: object, unit: str = "mib") -> int | None:
    """Read an amount of memory; `unit` is what a bare number counts.

    Tools that write MB mean 1024 * 1024 bytes: their totals are those of the same chip in MiB.

    Raises:
        ValueError: it is no amount of memory.
    """
    number = _read(value, _BYTES | {"": _BYTES[unit]}, "an amount of memory")
    if number is not None and number < 0:
        raise ValueError(f"{_quoted(str(value))} is not an amount of memory")
    return None if number is None else int(number)


def read_share(value: object) -> float | None:
    """Read a percentage as a share of 1; tools that print -1 do not know it.

    Raises:
        ValueError: it is no percentage.
    """
    percentage = _unless_negative(_read(value, _PERCENT, "a percentage"))
    return None if percentage is None else percentage / 100


def read_celsius(value: object) -> float | None:
    """Read a temperature.

    Raises:
        ValueError: it is no temperature.
    """
    return _read(value, _DEGREES, "a temperature")


def read_watts(value: object) -> float | None:
    """Read an electric power; tools that print -1 do not know it.

    Raises:
        ValueError: it is no power.
    """
    return _unless_negative(_read(value, _WATTS, "a power"))


def read_index(value: object) -> int:
    """Read the number of a device.

    Raises:
        ValueError: it is no whole number from 0.
    """
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,6}", text):
        raise ValueError(f"{_quoted(text)} is not the number of a device")
    return int(text)


def _read(value: object, units: dict[str, float] | dict[str, int], what: str) -> float | None:
    if value is None:
        return None
    text = str(value).strip()
    if text.lower() in _UNKNOWN:
        return None
    found = _NUMBER.fullmatch(text)
    if found is None or found[2].lower() not in units or isinstance(value, bool):
        raise ValueError(f"{_quoted(text)} is not {what}")
    number = float(found[1]) * units[found[2].lower()]
    if not math.isfinite(number):
        raise ValueError(f"{_quoted(text)} is not {what}")
    return number


def _unless_negative(number: float | None) -> float | None:
    return None if number is None or number < 0 else number


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
