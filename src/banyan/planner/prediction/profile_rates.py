"""From the profile that `banyan devices --measure` keeps to the rates predictions are made from.

A profile has chains of linear layers, attention of one shape of heads, and norms; everything else
is interpolated from them.
"""

from dataclasses import replace

from banyan.devices.profile import DeviceProfile
from banyan.devices.rates import DecodeRate, LinearRate, PrefillRate, RowRate
from banyan.foundation.errors import InputError
from banyan.planner.prediction.rates import (
    AttentionPoint,
    DeviceRates,
    ElementwisePoint,
    LinearPoint,
)

_KEY_HEADS = 8
"""What a rate is of does not depend on how many heads of keys there are; one has to be named."""

_NAMES = {"fp8": "float8"}
_BYTES = {"float32": 4, "bfloat16": 2}
_KEY_BYTES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "fp8": 1.0, "int4": 0.5}
_SCALES = {"int8": 1, "fp8": 1, "int4": 2}


def rates_of_profile(
    profile: DeviceProfile,
    *,
    vendor: str,
    memory_bytes: int,
    name: str | None = None,
    watts_busy: float = 0.0,
    watts_idle: float = 0.0,
) -> DeviceRates:
    """The rates of a profile; `name` is that of its type in inventories, else the profile's.

    Raises:
        InputError: the profile has ceilings only, so programs have to be measured first.
    """
    if not profile.has_programs:
        raise InputError(
            f"the profile of {profile.model} of {profile.measured_on} has no programs, only "
            "ceilings; run `banyan devices --measure`"
        )
    attention = [*map(_decode, profile.decode_rates), *map(_prefill, profile.prefill_rates)]
    return DeviceRates(
        device=name or profile.device,
        vendor=vendor,
        memory_bytes=memory_bytes,
        read_bytes_per_second=profile.read_bytes_per_second,
        program_seconds=profile.launch_seconds,
        linear=tuple(_linear(rate, profile.kernel_seconds) for rate in profile.linear_rates),
        attention=tuple(attention),
        elementwise=tuple(_rows(rate, profile.kernel_seconds) for rate in profile.row_rates),
        watts_busy=watts_busy,
        watts_idle=watts_idle,
    )


def _linear(rate: LinearRate, kernel_seconds: float) -> LinearPoint:
    """Rates of a profile leave out what one more kernel costs; points have it."""
    seconds = rate.seconds(rate.depth * rate.columns) + kernel_seconds
    return LinearPoint(rate.weights, rate.rows, rate.columns, rate.depth, seconds)


def _decode(rate: DecodeRate) -> AttentionPoint:
    row = rate.head_size * _KEY_BYTES[rate.cache] + 4 * _SCALES.get(rate.cache, 0)
    num_bytes = 2 * _KEY_HEADS * row * rate.sequences * rate.context
    return AttentionPoint(
        form=_NAMES.get(rate.cache, rate.cache),
        heads=_KEY_HEADS * rate.query_heads,
        cache_heads=_KEY_HEADS,
        head_size=rate.head_size,
        sequences=rate.sequences,
        tokens=1,
        context=rate.context - 1,
        seconds=num_bytes / rate.bytes_per_second,
    )


def _prefill(rate: PrefillRate) -> AttentionPoint:
    heads = _KEY_HEADS * rate.query_heads
    point = AttentionPoint(
        form=_NAMES.get(rate.cache, rate.cache),
        heads=heads,
        cache_heads=_KEY_HEADS,
        head_size=rate.head_size,
        sequences=1,
        tokens=rate.tokens,
        context=rate.context - rate.tokens,
        seconds=1.0,
    )
    operations = 4.0 * heads * rate.head_size * point.pairs
    return replace(point, seconds=operations / rate.operations_per_second)


def _rows(rate: RowRate, kernel_seconds: float) -> ElementwisePoint:
    values = rate.rows * rate.width
    # As work is counted: what a kernel writes for the next product, and as much for reading.
    moved = 2 * values * _BYTES[rate.activations]
    return ElementwisePoint(moved, values / rate.values_per_second + kernel_seconds)
