"""What compiled programs were measured to reach on a device, bucket by bucket.

Plain records of a `DeviceProfile`. Every number was taken of programs that the compiler makes and
the engine runs, with operands that do not fit in the caches and lie where the last layer left them:
in memory. Times of launches and of single kernels are beside these, not in them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinearRate:
    """Linear layers of one weight format and one number of rows.

    A layer of `depth` x `columns` weights takes depth x columns / `weights_per_second` seconds for
    all its rows; its arithmetic is 2 x `rows` x `weights_per_second` operations per second. Compare
    layers of about the measured size: smaller ones lie in caches, or are too short for all threads.

    Attributes:
        weights: format of the weights: "float32", "bfloat16", "int8" (one scale for each row of
            the matrix) or "int4" (a scale for each `group` numbers).
        activations: element type that goes in and comes out: "float32" or "bfloat16".
        rows: of activations in one launch, which is tokens of a step.
        depth: numbers that go in.
        columns: numbers that come out.
        group: weights that share a scale; 0 where there is none, `depth` for "int8".
        weights_per_second: numbers of the matrix that are multiplied with all rows, per second.
    """

    weights: str
    activations: str
    rows: int
    depth: int
    columns: int
    group: int
    weights_per_second: float

    @property
    def operations_per_second(self) -> float:
        """Multiplications and additions per second."""
        return 2.0 * self.rows * self.weights_per_second

    def seconds(self, num_weights: float) -> float:
        """How long a layer of so many weights takes for these rows."""
        return num_weights / self.weights_per_second


@dataclass(frozen=True, slots=True)
class DecodeRate:
    """Attention of one new token for each sequence over cached keys and values.

    Attributes:
        cache: format of the cache, a name of `compiler.ir.cached`: "bfloat16", "float32", "int8",
            "fp8" or "int4".
        sequences: in the step, each with `context` tokens.
        context: cached tokens of each sequence.
        query_heads: that read one pair of keys and values, as in grouped-query attention.
        head_size: numbers of a head.
        bytes_per_second: of keys, values and their scales, each read once, per second.
    """

    cache: str
    sequences: int
    context: int
    query_heads: int
    head_size: int
    bytes_per_second: float


@dataclass(frozen=True, slots=True)
class PrefillRate:
    """Attention of the tokens of one prompt over the cache.

    Attributes:
        cache: as in `DecodeRate`.
        tokens: new ones, which are the last of the sequence.
        context: cached tokens of the sequence, the new ones among them.
        query_heads: as in `DecodeRate`.
        head_size: numbers of a head.
        operations_per_second: 4 x head size for each pair of a query row of one head and a key
            that it sees: a token sees itself and those before.
    """

    cache: str
    tokens: int
    context: int
    query_heads: int
    head_size: int
    operations_per_second: float


@dataclass(frozen=True, slots=True)
class RowRate:
    """What lies between products, over rows that a layer just left in the caches.

    Attributes:
        kind: "norm", the only one: adds a residual and normalises each row (RMS).
        activations: "float32" or "bfloat16".
        rows: of activations.
        width: numbers of a row.
        values_per_second: numbers of the result per second.
    """

    kind: str
    activations: str
    rows: int
    width: int
    values_per_second: float
