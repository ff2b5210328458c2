"""Rates of a device of tests: every kind of work at a round number of operations per second."""

from banyan.planner.prediction.rates import (
    AttentionPoint,
    DeviceRates,
    ElementwisePoint,
    LinearPoint,
)

PRODUCTS = 1e9
"""Multiplications of a product in one second, whatever its size."""

PAIRS = 1e8
"""Multiplications of attention with one of its two products in one second."""

MOVED = 1e9
"""Bytes that kernels without products move in one second."""


def even_rates(device: str = "fast", program_seconds: float = 0.0) -> DeviceRates:
    """A device on which time is proportional to work."""
    return DeviceRates(
        device=device,
        vendor="here",
        memory_bytes=10**9,
        read_bytes_per_second=1e11,
        program_seconds=program_seconds,
        linear=tuple(
            LinearPoint(form, rows, 64, 64, rows * 64 * 64 / PRODUCTS)
            for form in ("bfloat16", "int8")
            for rows in (1, 64)
        ),
        attention=tuple(
            AttentionPoint("bfloat16", 4, 2, 64, 1, 1, past, 4 * 64 * (past + 1) / PAIRS)
            for past in (15, 255)
        ),
        elementwise=tuple(ElementwisePoint(n, n / MOVED) for n in (1, 1024)),
        watts_busy=100.0,
        watts_idle=10.0,
    )
