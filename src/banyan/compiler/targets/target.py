"""What a printer of chip text promises: a lowered graph in, text and its needs out."""

from collections.abc import Sequence
from typing import Protocol

from banyan.compiler.ir.graph import Graph
from banyan.compiler.targets.cpp.memory import Placement


class PrintedProgram(Protocol):
    """The text of a whole program and what it needs to run."""

    @property
    def source(self) -> str:
        """The text."""
        ...

    @property
    def entries(self) -> Sequence[str]:
        """Functions to call in order."""
        ...

    @property
    def num_kernels(self) -> int:
        """Distinct kernels."""
        ...

    @property
    def num_launches(self) -> int:
        """Launches of one run."""
        ...

    @property
    def scratch_bytes(self) -> int:
        """Private memory of each thread."""
        ...


class Target(Protocol):
    """A printer for one kind of chip."""

    @property
    def name(self) -> str:
        """The name a person types."""
        ...

    def emit(self, graph: Graph, placement: Placement) -> PrintedProgram:
        """Print a lowered graph whose values are placed.

        Raises:
            CompilationFailed: an operation this target has no text for.
        """
        ...
