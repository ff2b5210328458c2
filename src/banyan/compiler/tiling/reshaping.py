"""Windows seen through a reshape."""

from collections.abc import Sequence

from banyan.compiler.ir.symbols import Dim, matching_groups, product
from banyan.compiler.tiling.indices import Indices, known
from banyan.compiler.tiling.windows import (
    At,
    Each,
    Entry,
    Span,
    Window,
    entry_for,
    index_of,
    is_whole,
    whole,
)


def through_reshape(
    indices: Indices, window: Window, shape: tuple[Dim, ...], source: tuple[Dim, ...]
) -> Window | None:
    """The window on a tensor of shape `source` with the elements of `window` on its reshape.

    The elements keep their row-major order. None when they are no window of the source; lists of
    indices (`as_lanes`) always have an answer.
    """
    groups = matching_groups(source, shape)
    if groups is None:
        return None
    found: dict[int, Entry] = {}
    for ours, theirs in groups:
        entries = [window[i] for i in theirs]
        sizes = [shape[i] for i in theirs]
        answer = _through_group(indices, entries, sizes, [source[i] for i in ours])
        if answer is None:
            return None
        found.update(zip(ours, answer, strict=True))
    return tuple(found[i] for i in range(len(source)))


def _through_group(
    indices: Indices, entries: Sequence[Entry], sizes: Sequence[Dim], source: Sequence[Dim]
) -> list[Entry] | None:
    real = [(e, s) for e, s in zip(entries, sizes, strict=True) if s != 1]
    wide = [size for size in source if size != 1]
    answer = _through_real(indices, [e for e, _ in real], [s for _, s in real], wide)
    if answer is None:
        return None
    rest = iter(answer)
    return [At(indices.number(0)) if size == 1 else next(rest) for size in source]


def _through_real(
    indices: Indices, entries: list[Entry], sizes: list[Dim], source: list[Dim]
) -> list[Entry] | None:
    if sizes == source:
        return entries
    if not any(isinstance(entry, Span) for entry in entries):
        flat = indices.flatten([(index_of(e), s) for e, s in zip(entries, sizes, strict=True)])
        return [entry_for(index) for index in indices.unflatten(flat, tuple(source))]
    if any(isinstance(entry, Each) for entry in entries):
        return None
    first = next(i for i, entry in enumerate(entries) if isinstance(entry, Span))
    ahead, spans = entries[:first], entries[first:]
    if all(is_whole(e, s) for e, s in zip(spans, sizes[first:], strict=True)):
        return _whole_tail(indices, ahead, sizes, source)
    if len(spans) == 1 and len(source) == 1 and isinstance(spans[0], Span):
        return [_inside_row(indices, ahead, sizes, spans[0])]
    if len(sizes) == 1 and isinstance(spans[0], Span):
        return _whole_lines(indices, spans[0], source)
    return None


def _whole_lines(indices: Indices, span: Span, source: list[Dim]) -> list[Entry] | None:
    """Part of a flat dim that covers whole lines [n, p] of its source."""
    start, line = known(span.start), source[-1]
    if len(source) != 2 or start is None or not isinstance(line, int):
        return None
    if not isinstance(span.size, int) or start % line or span.size % line:
        return None
    return [Span(indices.number(start // line), span.size // line), whole(indices, line)]


def _inside_row(indices: Indices, ahead: list[Entry], sizes: list[Dim], span: Span) -> Span:
    """Part of one row of a matrix, seen in the flat tensor."""
    row = indices.flatten([(index_of(e), s) for e, s in zip(ahead, sizes[:-1], strict=True)])
    start = indices.add(indices.multiply(row, sizes[-1]), span.start)
    return Span(start, span.size, span.divisible)


def _whole_tail(
    indices: Indices, ahead: list[Entry], sizes: list[Dim], source: list[Dim]
) -> list[Entry] | None:
    tail = product(tuple(sizes[len(ahead) :]))
    row = indices.flatten([(index_of(e), s) for e, s in zip(ahead, sizes, strict=False)])
    for split in range(len(source) + 1):
        if product(tuple(source[split:])) == tail:
            heads = indices.unflatten(row, tuple(source[:split]))
            return [*map(entry_for, heads), *(whole(indices, size) for size in source[split:])]
    if len(source) == 1:
        return [Span(indices.multiply(row, tail), tail)]
    return None
