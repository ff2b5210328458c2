"""Sizes and times in words of people. Pure."""


def over_text(what: str, value: float, limit: float) -> str:
    """How far a time lies over its goal."""
    return (
        f"{what} {seconds_text(value)}, {seconds_text(value - limit)} over the goal of "
        f"{seconds_text(limit)}"
    )


def size_text(num_bytes: float) -> str:
    """Bytes for people: "3.1 GiB"."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if num_bytes >= 0.995 * size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes / 1024:.1f} KiB"


def seconds_text(seconds: float) -> str:
    """Seconds for people: "41 ms"."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
