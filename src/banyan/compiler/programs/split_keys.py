"""Splits of the keys of a sequence: what many programs found is put together by another.

After FlashDecoding (Dao et al. 2023, "Flash-Decoding for long-context inference"). A split has a
fixed number of keys counted from the start of the sequence, and splits are put together in order
by the same arithmetic wherever that happens: no result depends on who worked on which split.
"""

from banyan.compiler.ir.graph import Builder, Kernel, Node, Region
from banyan.compiler.ir.symbols import Dim, ceil_divide, upper_bound
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.programs.running_softmax import BLOCK, HIDDEN, fixed, mean_of
from banyan.compiler.tiling.indices import Indices
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import At, whole

SPLIT = 1024
"""Keys of a split: whole steps of every target."""


def most_splits(columns: Dim) -> Dim:
    """The splits of a sequence whose table has so many columns; 1 where none is longer."""
    splits = ceil_divide(columns, SPLIT // BLOCK)
    return splits if upper_bound(splits) > 1 else 1


def partial_types(splits: Dim, sequences: Dim, heads: int, size: int) -> tuple[TensorType, ...]:
    """Means and logs of sums of exponentials of each split of sequences with one new token."""
    rows = (splits, sequences, heads)
    return TensorType((*rows, size), DType.FLOAT32), TensorType(rows, DType.FLOAT32)


def stretch_seen(
    index: Indices, position: Node, last: Node, window: int, size: int
) -> tuple[Node, Node]:
    """Of stretches of `size` keys, the first that a token at `position` sees with a window, and the
    end before key `last`."""
    stop = index.divide(index.add(last, index.number(size - 1)), size)
    return index.divide(first_key(index, position, window), size), stop


def first_key(index: Indices, position: Node, window: int) -> Node:
    """The first key that a token sees."""
    if not window:
        return index.number(0)
    oldest = index.subtract(position, index.number(window - 1))
    return index.builder.add("max", (oldest, index.number(0)))


def empty_state(tiles: Tiles, shape: tuple[Dim, ...]) -> list[Node]:
    """No split yet: largest log, sum, and weighted means of rows of `shape`'s last axis."""
    return [
        tiles.fill(HIDDEN, DType.FLOAT32, shape[:-1]),
        tiles.fill(0, DType.FLOAT32, shape[:-1]),
        tiles.fill(0, DType.FLOAT32, shape),
    ]


def with_split(tiles: Tiles, state: list[Node], mean: Node, log: Node) -> list[Node]:
    """The state with one more split; one alone stays as it is, to the bit."""
    add = tiles.add
    top, total, sums = state
    size = sums.shape[-1]
    highest = add("max", top, log)
    nothing = add("eq", highest, tiles.fill(HIDDEN, DType.FLOAT32, ()))
    base = add("where", nothing, tiles.fill(0, DType.FLOAT32, highest.shape), highest)
    fade, weight = (add("exp", add("sub", x, base)) for x in (top, log))
    faded = add("mul", sums, tiles.columns(fade, size))
    new_sums = add("add", faded, add("mul", mean, tiles.columns(weight, size)))
    return [highest, add("add", add("mul", total, fade), weight), new_sums]


def merge_splits_kernel(
    builder: Builder, out: TensorType, tables: TensorType, lengths: TensorType, window: int
) -> Kernel:
    """The kernel with pointers (out [T,H,D], means, logs, starts, lengths), grid (S, H).

    Writes the rows of sequences with one new token that sees more than one split.
    """
    tiles = Tiles(builder)
    index = tiles.indices
    tokens, heads, size = out.shape
    splits, sequences = most_splits(tables.shape[1]), lengths.shape[0]
    kinds = partial_types(splits, sequences, fixed(heads), fixed(size))
    starts = TensorType((sequences + 1,), DType.INT32)
    target = builder.pointer("out", out, "update")
    names = ("means", "logs", "starts", "lengths")
    given = zip(names, (*kinds, starts, lengths), strict=True)
    means, logs, first_tokens, counts = (builder.pointer(n, kind, "read") for n, kind in given)
    sequence, head = tiles.parameter(), tiles.parameter()

    def number(pointer: Node, where: Node) -> Node:
        return tiles.cast(tiles.read(pointer, (At(where),)), DType.INT64)

    token, length = number(first_tokens, sequence), number(counts, sequence)
    following = number(first_tokens, index.add(sequence, index.number(1)))
    position = index.subtract(length, index.number(1))
    first, stop = stretch_seen(index, position, length, window, SPLIT)
    is_single = tiles.add("eq", index.subtract(following, token), index.number(1))
    is_split = tiles.add("gt", index.subtract(stop, first), index.number(1))
    is_mine = tiles.add("and", is_single, is_split)
    end = tiles.add("where", is_mine, stop, first)

    def body(split: Node, *state: Node) -> list[Node]:
        # Splits are numbered from the first that is seen.
        place = (At(index.subtract(split, first)), At(sequence), At(head))
        mean = tiles.reshaped(tiles.read(means, (*place, whole(index, size))), (1, size))
        log = tiles.reshaped(tiles.read(logs, place), (1,))
        return with_split(tiles, list(state), mean, log)

    state = tiles.range(first, end, empty_state(tiles, (1, size)), body)
    mean, _ = mean_of(tiles, state)
    result = tiles.reshaped(tiles.cast(mean, out.dtype), (size,))
    place = At(tiles.add("where", is_mine, token, index.number(tokens)))
    store = tiles.store(target, result, (place, At(head), whole(index, size)))
    pointers = (target, means, logs, first_tokens, counts)
    body_of = Region((sequence, head), (store,), ())
    return Kernel("merge_splits", (sequences, heads), pointers, body_of)
