"""The walk over a placed graph: what every printer of programs can count on."""

from dataclasses import dataclass, field

from banyan.compiler.ir.graph import Builder, Graph, Kernel, Output
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.targets.memory import CopyStep, Launch, Location, Memory, place_memory
from banyan.compiler.targets.program import KernelText, ProgramPrinter
from tests.compiler.ir.sample_kernels import TOKENS, row_squares_graph, row_squares_kernel

ROWS = TensorType((TOKENS, 8), DType.FLOAT32)


@dataclass(slots=True)
class Counting(ProgramPrinter[str]):
    """Prints steps as words, and notes which kernels it was asked for."""

    asked: list[Kernel] = field(default_factory=list)

    def kernel(self, kernel: Kernel) -> KernelText:
        self.asked.append(kernel)
        return KernelText(kernel.name, ("T",), scratch_bytes=8 * len(self.asked))

    def launch(self, step: Launch, text: KernelText, number: int) -> list[str]:
        places = " ".join(str(self.buffer(place)) for place in step.locations)
        sizes = " ".join(map(self.symbol, text.symbols))
        return [f"launch {number} on {places} with {sizes}"]

    def copy(self, step: CopyStep) -> list[str]:
        return [f"copy {self.buffer(step.source)} to {self.buffer(step.target)}"]


def printer(graph: Graph) -> Counting:
    return Counting(graph, place_memory(graph))


def twice(second_is_another: bool) -> Graph:
    """Two launches: of one kernel, or of two that print alike; between them the framework."""
    builder = Builder()
    x = builder.input("x", ROWS)
    first = row_squares_kernel(builder)
    second = row_squares_kernel(builder) if second_is_another else first
    squares = builder.add("get", (builder.add("call", (x,), kernel=first),), index=0)
    whole = builder.add(
        "extern", (squares,), target="torch.ops.aten.relu", static=(), types=(ROWS,), reason="none"
    )
    again = builder.add("call", (whole,), kernel=second)
    return Graph("twice", (x,), (Output("y", builder.add("get", (again,), index=0)),))


def test_a_launch_reads_inputs_and_writes_the_outputs_behind_them() -> None:
    assert printer(row_squares_graph()).runs() == [["launch 0 on 0 1 with symbols[0]"]]


def test_a_kernel_is_printed_once_and_calls_of_the_framework_part_the_runs() -> None:
    counting = printer(twice(second_is_another=False))
    runs = counting.runs()
    assert [len(lines) for lines in runs] == [1, 1]
    assert len(counting.asked) == 1
    text = counting.program("source", ("run_0", "run_1"))
    assert (text.num_kernels, text.num_launches, text.scratch_bytes) == (1, 2, 8)


def test_kernels_with_equal_bodies_share_a_number() -> None:
    counting = printer(twice(second_is_another=True))
    assert [lines[0][: len("launch 0")] for lines in counting.runs()] == ["launch 0", "launch 0"]
    assert len(counting.asked) == 2
    assert len(counting.kernels) == 1


def test_the_arena_is_the_buffer_behind_inputs_and_outputs() -> None:
    counting = printer(twice(second_is_another=False))
    assert counting.buffer(Location(Memory.INPUT, 0)) == 0
    assert counting.buffer(Location(Memory.OUTPUT, 0)) == 1
    assert counting.buffer(Location(Memory.ARENA, 5)) == 2
