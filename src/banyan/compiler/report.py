"""What a compilation did: the numbers behind `banyan compile --report`."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from banyan.compiler.ir.graph import Graph

_NOT_COMPUTED = frozenset({"input", "data", "constant", "get", "size"})


@dataclass(frozen=True, slots=True)
class ExternUse:
    """An operation left to the framework: which, how often, and why."""

    target: str
    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class CompileReport:
    """Attributes:
    name: the graph's name.
    target: the printer: "cpp" or "interpreter".
    instruction_set: which vector instructions the program uses.
    num_nodes: compute nodes of the captured graph.
    num_kernels: distinct kernels printed.
    num_launches: kernel launches of one run.
    externs: what is left to the framework.
    weight_bytes: packed weights.
    arena_bytes: memory shared by values between kernels, at the largest sizes.
    scratch_bytes: private memory of each thread.
    seconds: wall time of the compilation.
    cached: whether an earlier compilation was found on disk.
    """

    name: str
    target: str
    instruction_set: str
    num_nodes: int
    num_kernels: int
    num_launches: int
    externs: tuple[ExternUse, ...]
    weight_bytes: int
    arena_bytes: int
    scratch_bytes: int
    seconds: float
    cached: bool

    @property
    def coverage(self) -> float:
        """Share of the compute nodes that run in our own kernels, 0 to 1."""
        outside = sum(use.count for use in self.externs)
        return 1.0 if self.num_nodes == 0 else 1.0 - outside / self.num_nodes

    def rows(self) -> list[tuple[str, str]]:
        """Label and text of each line, as people read them."""
        found = [
            ("graph", self.name),
            ("target", f"{self.target} ({self.instruction_set})"),
            ("compute nodes", f"{self.num_nodes}"),
            ("kernels", f"{self.num_kernels} distinct, {self.num_launches} launches"),
            ("coverage", f"{100 * self.coverage:.1f} % of the compute nodes in our kernels"),
            ("weights", _size(self.weight_bytes)),
            ("arena", f"{_size(self.arena_bytes)} at the largest sizes"),
            ("scratch", f"{_size(self.scratch_bytes)} per thread"),
            ("compiled in", f"{self.seconds:.2f} s{' (from the cache)' if self.cached else ''}"),
        ]
        return found + [(f"extern {use.target} x {use.count}", use.reason) for use in self.externs]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def graph_report(graph: Graph, lowered: Graph, target: str, instruction_set: str) -> CompileReport:
    """What a captured graph and the graph of its kernels tell; nothing is built yet."""
    weights = (node for node in lowered.inputs if node.attr("role") == "weight")
    return CompileReport(
        graph.name,
        target,
        instruction_set,
        num_nodes=count_nodes(graph),
        num_kernels=0,
        num_launches=0,
        externs=extern_uses(graph),
        weight_bytes=sum(node.tensor.maximum_bytes for node in weights),
        arena_bytes=0,
        scratch_bytes=0,
        seconds=0.0,
        cached=False,
    )


def count_nodes(graph: Graph) -> int:
    """Compute nodes of a captured graph."""
    return sum(node.op not in _NOT_COMPUTED for node in graph.nodes())


def extern_uses(graph: Graph) -> tuple[ExternUse, ...]:
    """What a graph leaves to the framework."""
    uses = Counter(
        (str(node.attr("target")), str(dict(node.attrs).get("reason", "not known")))
        for node in graph.nodes()
        if node.op == "extern"
    )
    return tuple(ExternUse(target, count, reason) for (target, reason), count in uses.items())


def _size(num_bytes: int) -> str:
    amount = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
