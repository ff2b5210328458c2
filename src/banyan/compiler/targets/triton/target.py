"""The Triton target: its schedule, its text, and the module on disk that a device loads."""

from dataclasses import dataclass, field
from pathlib import Path

from banyan.compiler.ir.graph import Graph
from banyan.compiler.options import CompileOptions
from banyan.compiler.targets.memory import Placement
from banyan.compiler.targets.target import ProgramText, keep_text
from banyan.compiler.targets.triton.chips import CHIPS, Chip
from banyan.compiler.targets.triton.program import print_program
from banyan.compiler.tiling.options import TileOptions
from banyan.devices.device import Device, LoadedProgram
from banyan.foundation.errors import CompilerMissing, InputError


@dataclass(frozen=True, slots=True)
class TritonTarget:
    """The printer of Triton for one kind of chip; a `Target`."""

    chip: Chip
    cache_directory: Path
    name: str = field(default="triton", init=False)

    @property
    def detail(self) -> str:
        """The chip."""
        return self.chip.name

    @property
    def settings(self) -> str:
        """The facts of the chip, its schedule among them."""
        return repr(self.chip)

    @property
    def tiling(self) -> TileOptions:
        """Bounded tiles of plain weights."""
        return self.chip.options

    def emit(self, graph: Graph, placement: Placement) -> ProgramText:
        """Print a lowered graph whose values are placed."""
        return print_program(graph, placement, self.chip)

    def build(self, text: ProgramText) -> Path:
        """Write the module; Triton itself compiles kernels when they are first launched."""
        return keep_text(text.source, self.cache_directory, "triton", ".py")

    def open_packer(self) -> LoadedProgram:
        """Weights are not packed."""
        raise CompilerMissing("the Triton target packs no weights")


_CHIP_OF_DEVICE = {"cuda": "nvidia", "triton": "interpreter"}
"""The row of facts for a device, by the first part of its name."""


def open_target(device: Device, options: CompileOptions) -> TritonTarget:
    """The target for the chip of a device.

    Raises:
        InputError: the device takes no Triton programs.
    """
    chip = _CHIP_OF_DEVICE.get(device.name.partition(":")[0])
    if chip is None:
        raise InputError(
            f"the Triton target makes no programs for the device {device.name!r}; "
            f"it does for {', '.join(_CHIP_OF_DEVICE)}"
        )
    return TritonTarget(CHIPS[chip], options.cache_directory)
