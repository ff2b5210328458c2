"""The walk over a placed graph that every printer of whole programs makes: each kernel once."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from banyan.compiler.ir.graph import Graph, Kernel
from banyan.compiler.targets.memory import CopyStep, ExternCall, Launch, Location, Memory, Placement
from banyan.compiler.targets.target import ProgramText

Line = TypeVar("Line")


@dataclass(frozen=True, slots=True)
class KernelText:
    """A printed kernel.

    Attributes:
        body: all of its function but the name; equal kernels have equal bodies.
        symbols: names of the symbols it reads, in the order in which they are passed.
        scratch_bytes: scratch memory of each thread, or of each group of work-items.
        hints: further options of its launch.
    """

    body: str
    symbols: tuple[str, ...]
    scratch_bytes: int = 0
    hints: str = ""


@dataclass(slots=True)
class ProgramPrinter(ABC, Generic[Line]):
    """Prints steps as lines of one kind; made for one program, `runs` is called once.

    Attributes:
        graph: lowered.
        placement: its steps, and the memory of every value.
        kernels: the kernels with distinct bodies, in order of their numbers.
        symbols: the number of each of the graph; offsets of the arena's slots follow them.
    """

    graph: Graph
    placement: Placement
    kernels: list[tuple[Kernel, KernelText]] = field(init=False, default_factory=list)
    symbols: dict[str, int] = field(init=False)
    _known: dict[Kernel, tuple[KernelText, int]] = field(init=False, default_factory=dict)
    _numbers: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.symbols = {symbol.name: i for i, symbol in enumerate(self.graph.symbols())}

    @abstractmethod
    def kernel(self, kernel: Kernel) -> KernelText:
        """Print a kernel."""

    @abstractmethod
    def launch(self, step: Launch, text: KernelText, number: int) -> list[Line]:
        """Print the launch of the kernel that was printed as `number`."""

    @abstractmethod
    def copy(self, step: CopyStep) -> list[Line]:
        """Print a copy."""

    def runs(self) -> list[list[Line]]:
        """The steps between calls of the framework, and on the way every kernel."""
        runs: list[list[Line]] = [[]]
        for step in self.placement.steps:
            if isinstance(step, ExternCall):
                runs.append([])
            elif isinstance(step, Launch):
                runs[-1] += self.launch(step, *self._printed(step.kernel))
            else:
                runs[-1] += self.copy(step)
        return runs

    def _printed(self, kernel: Kernel) -> tuple[KernelText, int]:
        if kernel not in self._known:
            text = self.kernel(kernel)
            number = self._numbers.setdefault(text.body, len(self.kernels))
            if number == len(self.kernels):
                self.kernels.append((kernel, text))
            self._known[kernel] = text, number
        return self._known[kernel]

    def symbol(self, name: str) -> str:
        """The text of a symbol's value."""
        return f"symbols[{self.symbols[name]}]"

    def buffer(self, location: Location) -> int:
        """The number of a buffer: the graph's inputs, the memories of kind OUTPUT, the arena."""
        before = {
            Memory.INPUT: location.index,
            Memory.OUTPUT: len(self.graph.inputs) + location.index,
            Memory.ARENA: len(self.graph.inputs) + len(self.placement.output_types),
        }
        return before[location.memory]

    def program(self, source: str, entries: tuple[str, ...]) -> ProgramText:
        """The whole text with what was counted on the way."""
        scratch = max((text.scratch_bytes for _, text in self.kernels), default=0)
        launches = sum(isinstance(step, Launch) for step in self.placement.steps)
        return ProgramText(source, entries, len(self.kernels), launches, scratch)
