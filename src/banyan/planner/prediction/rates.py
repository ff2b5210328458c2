"""What a device was measured to need for the kinds of work that steps are made of.

`engine.workbench.calibration` measures it with programs of the same compiler; nothing here knows
how. Times are seconds of one kernel among others, weights and keys read from memory.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from banyan.foundation.errors import InputError
from banyan.planner.inventory import DeviceType
from banyan.planner.prediction.interpolation import interpolated

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class LinearPoint:
    """A product of `rows` with a weight of `columns` x `depth` numbers kept as `form`."""

    form: str
    rows: int
    columns: int
    depth: int
    seconds: float


@dataclass(frozen=True, slots=True)
class AttentionPoint:
    """Attention of some sequences, each with new tokens behind a context that is cached.

    Attributes:
        form: how keys and values are stored.
        heads: of queries.
        cache_heads: of keys and values.
        head_size: numbers of a key.
        sequences: computed at once.
        tokens: new ones of each sequence.
        context: cached ones before them.
        seconds: of one layer.
    """

    form: str
    heads: int
    cache_heads: int
    head_size: int
    sequences: int
    tokens: int
    context: int
    seconds: float

    @property
    def pairs(self) -> float:
        """Pairs of a new token and one it sees."""
        return self.sequences * self.tokens * (self.context + (self.tokens + 1) / 2)


@dataclass(frozen=True, slots=True)
class ElementwisePoint:
    """A kernel that only moves `num_bytes`, read and written."""

    num_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRates:
    """One device.

    Attributes:
        device: name of its type in inventories.
        vendor: who makes it.
        memory_bytes: what a model may take of it.
        read_bytes_per_second: from its own memory.
        program_seconds: what starting a program of no work costs.
        linear: measured products.
        attention: measured attention.
        elementwise: measured kernels that only move bytes.
        watts_busy: electric power under load; 0 where it is not known.
        watts_idle: the same while it waits.
        seconds_spent: what measuring took.
    """

    device: str
    vendor: str
    memory_bytes: int
    read_bytes_per_second: float
    program_seconds: float
    linear: tuple[LinearPoint, ...]
    attention: tuple[AttentionPoint, ...]
    elementwise: tuple[ElementwisePoint, ...]
    watts_busy: float = 0.0
    watts_idle: float = 0.0
    seconds_spent: float = 0.0

    def linear_forms(self) -> frozenset[str]:
        """Forms of weights that were measured."""
        return frozenset(point.form for point in self.linear)

    def attention_forms(self) -> frozenset[str]:
        """Forms of keys and values that were measured."""
        return frozenset(point.form for point in self.attention)

    def linear_seconds(self, form: str, rows: float, columns: float, depth: float) -> float:
        """One product.

        Raises:
            InputError: no product with such weights was measured.
        """
        points = [
            (
                (p.columns * p.depth, p.columns / p.depth, p.rows),
                p.seconds / (p.rows * p.columns * p.depth),
            )
            for p in self.linear
            if p.form == form
        ]
        self._require(points, f"products with {form} weights", self.linear_forms())
        size = columns * depth
        return interpolated(points, (size, columns / depth, rows)) * rows * size

    def attention_seconds(
        self,
        form: str,
        shape: tuple[int, int, int],
        sequences: float,
        tokens: float,
        pairs: float,
    ) -> float:
        """Attention of one layer.

        Args:
            form: how keys and values are stored.
            shape: query heads, key heads, numbers of a key.
            sequences: computed at once.
            tokens: new ones of each sequence.
            pairs: of a new token and one it sees, all sequences.

        Raises:
            InputError: no attention over such keys was measured.
        """
        points = [
            (
                (
                    p.head_size,
                    p.heads / p.cache_heads,
                    p.tokens,
                    p.pairs / (p.tokens * p.sequences),
                    p.sequences,
                ),
                p.seconds / (p.heads * p.head_size * p.pairs),
            )
            for p in self.attention
            if p.form == form
        ]
        self._require(points, f"attention over {form} keys", self.attention_forms())
        heads, cache_heads, size = shape
        keys = pairs / (tokens * sequences)
        at = (size, heads / cache_heads, tokens, keys, sequences)
        return interpolated(points, at) * heads * size * pairs

    def elementwise_seconds(self, num_bytes: float) -> float:
        """One kernel that moves so many bytes; the smallest that was measured is the least."""
        smallest = min((point.num_bytes for point in self.elementwise), default=0)
        moved = max(num_bytes, smallest)
        points = [((p.num_bytes,), p.seconds / p.num_bytes) for p in self.elementwise]
        self._require(points, "kernels that only move bytes", frozenset())
        return interpolated(points, (moved,)) * moved

    def device_type(self) -> DeviceType:
        """The device as inventories describe it, with the rates of its largest products."""
        rates: dict[str, float] = {}
        for p in self.linear:
            rate = 2.0 * p.rows * p.columns * p.depth / p.seconds
            rates[p.form] = max(rate, rates.get(p.form, 0.0))
        return DeviceType(
            name=self.device,
            vendor=self.vendor,
            memory_bytes=self.memory_bytes,
            read_bytes_per_second=self.read_bytes_per_second,
            operations_per_second=rates,
            launch_seconds=self.program_seconds,
            watts_busy=self.watts_busy,
            watts_idle=self.watts_idle,
            source="measured",
        )

    def _require(self, points: list[Any], what: str, known: frozenset[str]) -> None:
        if not points:
            listed = ", ".join(sorted(known)) or "none"
            raise InputError(
                f"device {self.device} was never measured for {what}; measured are {listed}"
            )


def rates_table(rates: DeviceRates) -> dict[str, Any]:
    """Plain values, for JSON."""
    return {"format": FORMAT_VERSION, **asdict(rates)}


def read_rates(table: Mapping[str, Any]) -> DeviceRates:
    """The rates that `rates_table` wrote.

    Raises:
        InputError: a field is absent, unknown or of another kind.
    """
    given = dict(table)
    version = given.pop("format", None)
    if version != FORMAT_VERSION:
        raise InputError(
            f"rates of format {version!r} cannot be read, only {FORMAT_VERSION}; measure again"
        )
    kinds = {"linear": LinearPoint, "attention": AttentionPoint, "elementwise": ElementwisePoint}
    names = {field.name for field in fields(DeviceRates)}
    if wrong := sorted(names.symmetric_difference(given)):
        raise InputError(f"field {wrong[0]!r} of the rates is absent or unknown; measure again")
    for name, kind in kinds.items():
        try:
            given[name] = tuple(kind(**point) for point in given[name])
        except TypeError as error:
            raise InputError(f"a point of {name!r} cannot be read: {error}") from error
        if any(not point.seconds > 0 for point in given[name]):
            raise InputError(f"a point of {name!r} took no time; measure again")
    return DeviceRates(**given)
