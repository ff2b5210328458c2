"""A small graph with arrays for several sizes, run on a device and on the interpreter."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from banyan.compiler.compile import compile_graph
from banyan.compiler.executable import Executable, of_role
from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.symbols import evaluate
from banyan.compiler.ir.types import DType, TensorType
from banyan.engine.workbench.conformance.checks import (
    TOLERANCES,
    Area,
    Array,
    Bench,
    Check,
    compare,
    first_line,
)

Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


@dataclass(frozen=True, slots=True)
class GraphCase:
    """Attributes:
    name: what is computed.
    graph: with one symbol "n", or none.
    sizes: values of the symbol, one run each, all with one program.
    draws: name of an input -> how its values are drawn; others are normal, or 0 to 3 for integers.
    given: arrays that belong together, for a size; the others are drawn.
    area: what it is about.
    """

    name: str
    graph: Graph
    sizes: tuple[int, ...] = (1, 3, 16, 61)
    draws: tuple[tuple[str, Draw], ...] = ()
    given: Callable[[int], Mapping[str, Array]] = field(default=lambda size: {})
    area: Area = "operators"

    @property
    def tolerance(self) -> float:
        """By the narrowest floating type of the graph."""
        kinds = (node.type for node in self.graph.nodes())
        found = {kind.dtype for kind in kinds if isinstance(kind, TensorType)}
        return max(TOLERANCES.get(dtype, 0.0) for dtype in found)

    def arrays(self, size: int, roles: Collection[str]) -> dict[str, Array]:
        """Values of the inputs with these roles, the same ones every time."""
        draws, given = dict(self.draws), self.given(size)
        found: dict[str, Array] = {}
        for number, node in enumerate(self.graph.inputs):
            if str(node.attr("role")) not in roles:
                continue
            name = str(node.attr("name"))
            if name in given:
                found[name] = given[name]
                continue
            shape = tuple(evaluate(dim, {"n": size}) for dim in node.shape)
            random = np.random.default_rng(100 * number + size)
            draw = draws.get(name, _draw_any(node.dtype))
            found[name] = np.asarray(draw(random, shape)).astype(node.dtype.numpy)
        return found


def _draw_any(dtype: DType) -> Draw:
    if dtype.is_floating:
        return lambda random, shape: random.standard_normal(shape, np.float32)
    least = 0 if dtype in {DType.UINT8, DType.BOOL} else -3
    most = 2 if dtype is DType.BOOL else 4
    return lambda random, shape: random.integers(least, most, shape)


class ArrayWeights:
    """Weights that are arrays in memory."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays

    def names(self) -> Collection[str]:
        """Every name."""
        return self._arrays

    def read(self, name: str) -> Array:
        """One array."""
        return self._arrays[name]

    def release(self, name: str) -> None:
        """Nothing to free."""


def ready(executable: Executable, case: GraphCase, size: int) -> Executable:
    """Give an executable the weights of a case, and its states for one size."""
    executable.load_weights(ArrayWeights(case.arrays(size, {"weight"})))
    states = case.arrays(size, {"state"})
    if states:
        symbols = {s.name for a in of_role(executable.inputs, "state") for s in a.type.symbols()}
        executable.allocate_state(dict.fromkeys(symbols, size))
        for name, value in states.items():
            executable.write_state(name, value)
    return executable


def run_case(case: GraphCase, bench: Bench) -> Iterator[Check]:
    """Compile once, run every size, compare every output with the interpreter's."""
    name, area = case.name, case.area
    try:
        program = compile_graph(case.graph, device=bench.device, options=bench.options)
        oracle = compile_graph(
            case.graph, device=bench.device, target="interpreter", options=bench.options
        )
    # Whatever a compiler or a driver throws is a finding of the kit, not the end of it.
    except Exception as error:
        yield Check(area, name, False, f"does not compile: {first_line(error)}")
        return
    for size in case.sizes:
        where = f"{name}, n={size}" if case.graph.symbols() else name
        try:
            given = case.arrays(size, {"argument"})
            wanted = ready(oracle, case, size).run(given)
            found = ready(program, case, size).run(given)
        # As above: what running throws is a finding, too.
        except Exception as error:
            yield Check(area, where, False, f"does not run: {first_line(error)}")
            continue
        for output, value in wanted.items():
            title = where if len(wanted) == 1 else f"{where}: {output}"
            yield compare(area, title, found[output], value, case.tolerance)
