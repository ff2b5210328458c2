"""The OpenCL target: one text for every OpenCL device, within what the device was seen to do."""

from dataclasses import dataclass, field
from pathlib import Path

from banyan.compiler.ir.graph import Graph
from banyan.compiler.options import CompileOptions
from banyan.compiler.targets.memory import Placement
from banyan.compiler.targets.opencl.program import print_program
from banyan.compiler.targets.target import ProgramText, keep_text
from banyan.compiler.tiling.options import TileOptions
from banyan.devices.device import Device, LoadedProgram
from banyan.devices.opencl import OpenClDevice
from banyan.devices.opencl_limits import OpenClLimits
from banyan.foundation.errors import CompilationFailed

PORTABLE = OpenClLimits(lanes=8, local_bytes=16 * 1024)
"""What every device with local memory can do: for text that is printed without one."""


@dataclass(frozen=True, slots=True)
class OpenClTarget:
    """Prints OpenCL C within `limits`; a `Target`."""

    detail: str
    limits: OpenClLimits
    options: CompileOptions
    name: str = field(default="opencl", init=False)

    @property
    def settings(self) -> str:
        """What the text depends on; the driver's own compiler has a cache of its own."""
        return f"lanes {self.limits.lanes} local {self.limits.local_bytes}"

    @property
    def tiling(self) -> TileOptions:
        """Weights stay as they are; tiles that local memory holds."""
        return TileOptions(packing=False)

    def emit(self, graph: Graph, placement: Placement) -> ProgramText:
        """Print a lowered graph whose values are placed."""
        return print_program(graph, placement, self.limits)

    def build(self, text: ProgramText) -> Path:
        """Keep the text and its launches; the driver compiles it when the device loads it."""
        return keep_text(text.source, self.options.cache_directory, "opencl", ".json")

    def open_packer(self) -> LoadedProgram:
        """Nothing is packed."""
        raise CompilationFailed("the OpenCL target packs no weights")


def open_target(device: Device, options: CompileOptions) -> OpenClTarget:
    """The OpenCL target for a device, or for none in particular."""
    if isinstance(device, OpenClDevice):
        return OpenClTarget(device.model, device.limits, options)
    return OpenClTarget("any device", PORTABLE, options)
