"""Loop nests as text: where each statement goes, and how loops are split, cut and vectorised.

A nest is printed by a callback that asks for loops and values. A value is computed at the outermost
loop that knows its indices and is kept there for every later user. When index arithmetic asks for
another shape of the loops, everything is printed again from the start.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from banyan.compiler.ir.symbols import Dim, upper_bound
from banyan.compiler.targets.cpp.indices import (
    UNBOUNDED,
    Change,
    Cut,
    Index,
    Limit,
    Reshaped,
    Split,
    Variable,
)
from banyan.compiler.targets.cpp.scope import Scope
from banyan.foundation.errors import CompilationFailed

UNROLLED_STEPS = 4
"""Innermost loops together no longer than this are written out, so that the next one vectorises."""
_MOST_CHANGES = 40
_ENOUGH_STEPS = 32
"""Steps that keep the work-items of a group busy: of loops with as many the inner one is shared."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One loop to print.

    Attributes:
        size: its steps.
        extent: the text of their number where that is clipped.
        limit: what the clipping says about its variable.
        path: which loop it is, after splitting.
        points: where it is cut.
    """

    size: Dim
    extent: str | None = None
    limit: Limit | None = None
    path: str = ""
    points: tuple[int, ...] = ()

    @property
    def is_single(self) -> bool:
        """Only one step, known here."""
        return self.size == 1 and self.extent is None

    @property
    def is_short(self) -> bool:
        """Few steps, known here."""
        return isinstance(self.size, int) and self.extent is None and self.size <= UNROLLED_STEPS


@dataclass(frozen=True, slots=True)
class Cell:
    """The text of one element's value, and the loop it is known from."""

    text: str
    level: int = 0


@dataclass(slots=True)
class Nest:
    """The text of one nest while it is printed; made by `print_nest`."""

    scope: Scope
    changes: Mapping[str, tuple[Change, ...]]
    num_names: int = 0
    blocks: list[list[str]] = field(default_factory=lambda: [[]])
    headers: list[list[str]] = field(default_factory=list)
    known: list[dict[object, Cell]] = field(default_factory=lambda: [{}])

    @property
    def level(self) -> int:
        """The innermost open loop."""
        return len(self.blocks) - 1

    def name(self, prefix: str) -> str:
        """A variable name not yet used in this nest."""
        self.num_names += 1
        return f"{prefix}{self.num_names - 1}"

    def emit(self, text: str) -> None:
        """Add a statement to the innermost open loop."""
        self.blocks[-1].append(text)

    def value(self, key: object, kind: str, text: str, level: int) -> Cell:
        """Compute `text` once, at `level`; later requests with the same key get the same name."""
        name = self.name("v")
        self.blocks[level].append(f"const {kind} {name} = {text};")
        cell = Cell(name, level)
        self.known[level][key] = cell
        return cell

    def recall(self, key: object) -> Cell | None:
        """The value computed before under `key`, if it is still in scope."""
        for values in self.known:
            if key in values:
                return values[key]
        return None

    def loops(
        self,
        axes: Sequence[Axis],
        body: Callable[[tuple[Index, ...]], None],
        *,
        label: str = "",
        vector: str | None = None,
        independent: int = 0,
    ) -> None:
        """Print loops over `axes` around what `body` prints.

        `vector` is the text after `omp simd` for the innermost loop; None keeps it scalar. Steps of
        the last `independent` axes may run in any order, each on another work-item.
        """
        leaves: list[Axis] = []
        first, indices = [0], []
        for i, axis in enumerate(axes):
            indices.append(self._leaves(f"{label}{i}", axis, leaves))
            first.append(len(leaves))
        dialect = self.scope.dialect
        is_shared = dialect.is_shared and independent > 0
        chosen = _vector_leaf(leaves) if vector is not None and not is_shared else None
        split = _shared_leaf(leaves, first[len(axes) - independent]) if is_shared else None
        if is_shared and split is None:
            self._enter([dialect.once()])

        def visit(position: int, found: dict[str, Index]) -> None:
            if position == len(leaves):
                body(tuple(sum((found[p] * n for p, n in parts), Index()) for parts in indices))
                return
            leaf = leaves[position]
            unrolled = leaf.is_single or (chosen is not None and position > chosen)
            pragma = dialect.pragma(vector or "") if position == chosen else []
            for start, stop in zip((0, *leaf.points), (*leaf.points, None), strict=True):
                if unrolled and isinstance(leaf.size, int):
                    for step in range(start, leaf.size if stop is None else stop):
                        visit(position + 1, found | {leaf.path: Index(offset=step)})
                else:
                    variable = self._open(leaf, start, stop, pragma, shared=position == split)
                    visit(position + 1, found | {leaf.path: Index(((variable, 1),))})
                    self._close()

        visit(0, {})
        if is_shared and split is None:
            self._close()

    def _leaves(self, path: str, axis: Axis, leaves: list[Axis]) -> list[tuple[str, int]]:
        """Append the loops of one axis; return each one's path and its stride in the index."""
        changes = self.changes.get(path, ())
        split = next((c for c in changes if isinstance(c, Split)), None)
        if split is None:
            points = tuple(sorted(c.point for c in changes if isinstance(c, Cut)))
            leaves.append(replace(axis, path=path, points=points))
            return [(path, 1)]
        outer = self._leaves(f"{path}o", Axis(axis.size // split.factor), leaves)
        inner = self._leaves(f"{path}i", Axis(split.factor), leaves)
        return [(p, stride * split.factor) for p, stride in outer] + inner

    def _open(
        self, leaf: Axis, start: int, stop: int | None, pragma: list[str], *, shared: bool
    ) -> Variable:
        whole = leaf.extent or self.scope.dim(leaf.size)
        end = whole
        largest = min(upper_bound(leaf.size), UNBOUNDED) - 1
        if stop is not None:
            is_fixed = isinstance(leaf.size, int) and leaf.extent is None
            end = str(stop) if is_fixed else f"minimum(index_t({whole}), index_t({stop}))"
            largest = min(largest, stop - 1)
        name = self.name("i")
        header = [*pragma, self.scope.dialect.loop(name, str(start), end, shared=shared)]
        self._enter(header)
        exact = leaf.size if leaf.extent is None and not leaf.points else None
        return Variable(name, self.level, start, largest, leaf.path, exact, leaf.limit)

    def _enter(self, header: list[str]) -> None:
        # Values known outside the loop may still be added before it, so its header waits inside.
        self.blocks.append([])
        self.headers.append(header)
        self.known.append({})

    def _close(self) -> None:
        inner = self.blocks.pop()
        self.known.pop()
        self.blocks[-1] += [*self.headers.pop(), *inner, "}"]


def print_nest(scope: Scope, body: Callable[[Nest], None]) -> None:
    """Print the nest that `body` asks for, in a block of its own."""
    changes: dict[str, tuple[Change, ...]] = {}
    for _ in range(_MOST_CHANGES):
        nest = Nest(scope, changes)
        try:
            body(nest)
        except Reshaped as request:
            path = request.change.axis
            changes = {**changes, path: (*changes.get(path, ()), request.change)}
            continue
        lines = ["{", *nest.blocks[0], "}"]
        scope.lines += [*lines, *scope.dialect.after(lines)]
        return
    raise CompilationFailed(f"a loop nest did not settle after {_MOST_CHANGES} changes of shape")


def _vector_leaf(leaves: Sequence[Axis]) -> int | None:
    """The loop to vectorise: the innermost one that is long, past short loops to write out."""
    position, steps = len(leaves) - 1, 1
    while position > 0 and leaves[position].is_short:
        size = leaves[position].size
        steps *= size if isinstance(size, int) else UNROLLED_STEPS + 1
        if steps > UNROLLED_STEPS:
            break
        position -= 1
    return position if leaves else None


def _shared_leaf(leaves: Sequence[Axis], first: int) -> int | None:
    """The loop whose steps work-items share: the longest from `first` on, inner before outer."""
    found = [i for i in range(first, len(leaves)) if not leaves[i].is_single]
    return max(
        found, key=lambda i: (min(upper_bound(leaves[i].size), _ENOUGH_STEPS), i), default=None
    )
