"""Numbers of bytes as people write and read them: "8GiB", "500MB", "7.3 GB"."""

import re

from banyan.foundation.errors import InputError

_UNITS = {
    "": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9,
    "t": 10**12, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse_bytes(text: str, *, name: str) -> int:
    """Read a number of bytes such as "8GiB"; `name` is what it is for, in the error.

    Raises:
        InputError: no such number.
    """
    found = _WRITTEN.fullmatch(text.strip())
    if found is None or (unit := found[2].lower()) not in _UNITS:
        raise InputError(
            f"{name}={text!r} is no amount of memory; write a number and a unit, such as 8GiB "
            "or 500MB"
        )
    return int(float(found[1]) * _UNITS[unit])


def show_bytes(num_bytes: float) -> str:
    """Write a number of bytes for a person, in units of a thousand."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if abs(num_bytes) >= size:
            return f"{num_bytes / size:.2f} {unit}"
    return f"{num_bytes:.0f} bytes"
