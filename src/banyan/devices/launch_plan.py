"""A program as a list of kernel launches: what devices load that start each kernel themselves.

The CPU's programs are one C function per run. On a chip with a command queue the host starts
every kernel, so a program is text, its kernels, and for each entry the launches in order, with
the sizes and places that depend on a run's symbols as formulas. Kept on disk as JSON.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from banyan.foundation.errors import CompilationFailed

FORMAT_VERSION = 1

Formula: TypeAlias = Any
"""A number, or terms [factor, [atom, ...]] to be added; an atom is the number of a symbol, or
{"of": formula, "by": divisor} rounded down."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pointer points: a buffer of the launch, or the program's own constants.

    Attributes:
        buffer: number of the buffer; None for the constants.
        offset: bytes from its start.
        symbol: number of the symbol that gives the bytes instead, for values in the arena.
    """

    buffer: int | None
    offset: int = 0
    symbol: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedKernel:
    """One kernel of the text.

    Attributes:
        name: of its function.
        label: what a person calls it.
        memory_bytes: of global memory that each work-group needs for itself; 0 for none.
    """

    name: str
    label: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Step:
    """One launch of a kernel, or a copy.

    Attributes:
        kernel: number of the kernel; None copies from the first place to the second.
        places: its pointers.
        symbols: numbers of the symbols it takes, in order.
        amount: work-groups to start, or bytes to copy.
    """

    kernel: int | None
    places: tuple[Place, ...]
    symbols: tuple[int, ...]
    amount: Formula


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """A whole program.

    Attributes:
        source: the text that the driver compiles.
        lanes: work-items of each work-group.
        kernels: the kernels in the text.
        entries: for each entry its steps in order.
        constants: bytes that kernels read.
    """

    source: str
    lanes: int
    kernels: tuple[PlannedKernel, ...]
    entries: Mapping[str, tuple[Step, ...]]
    constants: bytes

    def as_text(self) -> str:
        """The plan as it is kept on disk."""
        plain = {
            "format": FORMAT_VERSION,
            "source": self.source,
            "lanes": self.lanes,
            "kernels": [asdict(kernel) for kernel in self.kernels],
            "entries": {
                name: [_plain_step(step) for step in steps] for name, steps in self.entries.items()
            },
            "constants": base64.b64encode(self.constants).decode(),
        }
        return json.dumps(plain)


def read_plan(path: Path) -> LaunchPlan:
    """Read a plan from disk.

    Raises:
        CompilationFailed: the file is missing, damaged or of another version.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["format"] != FORMAT_VERSION:
            raise ValueError(f"format {plain['format']}")
        return LaunchPlan(
            source=plain["source"],
            lanes=int(plain["lanes"]),
            kernels=tuple(PlannedKernel(**kernel) for kernel in plain["kernels"]),
            entries={
                name: tuple(_step(step) for step in steps)
                for name, steps in plain["entries"].items()
            },
            constants=base64.b64decode(plain["constants"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CompilationFailed(
            f"cannot load the program in {path.name}: {error!r}; "
            "delete it from the cache so that it is made again"
        ) from error


def evaluate_formula(formula: Formula, symbols: Sequence[int]) -> int:
    """The value of a formula for one run."""
    if isinstance(formula, int):
        return formula
    total = 0
    for factor, atoms in formula:
        term = int(factor)
        for atom in atoms:
            if isinstance(atom, int):
                term *= symbols[atom]
            else:
                term *= evaluate_formula(atom["of"], symbols) // int(atom["by"])
        total += term
    return total


def _plain_step(step: Step) -> list[Any]:
    places = [[place.buffer, place.offset, place.symbol] for place in step.places]
    return [step.kernel, places, list(step.symbols), step.amount]


def _step(plain: list[Any]) -> Step:
    kernel, places, symbols, amount = plain
    return Step(kernel, tuple(Place(*place) for place in places), tuple(symbols), amount)
