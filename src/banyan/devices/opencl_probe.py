"""Looks for OpenCL devices through the package pyopencl, which knows every installed driver.

Unlike other chips these cannot be told from the PCI list: a driver may run OpenCL on anything,
the cores of this machine included. Only asking the drivers answers, so this probe does.
"""

from collections.abc import Callable, Sequence
from typing import Any, final

from banyan.devices.chip import ChipSpec, DeviceFacts, DeviceUsage, No, Topology, Yes
from banyan.devices.opencl_driver import find_chips
from banyan.foundation.errors import EnvironmentProblem

OPENCL_CHIP = ChipSpec(
    name="opencl",
    vendor="any",
    pci_vendor_ids=(),
    visible_devices_variable=None,
    torch_device=None,
    collective_library=None,
    dtypes=("float32", "bfloat16"),
    status="emulated",
    target="opencl",
)

_INTERESTING = frozenset(
    ("cl_khr_fp16", "cl_khr_fp64", "cl_khr_subgroups", "cl_khr_integer_dot_product")
)

FindChips = Callable[[], Sequence[Any]]


@final
class OpenClProbe:
    """Every device of every OpenCL platform, in the drivers' order."""

    def __init__(self, find: FindChips = find_chips) -> None:
        self._find = find

    @property
    def chip(self) -> ChipSpec:
        """OpenCL, whoever made the chip."""
        return OPENCL_CHIP

    def available(self) -> Yes | No:
        """Say whether a driver lists a device."""
        try:
            chips = self._find()
        except EnvironmentProblem as error:
            return No(str(error))
        if not chips:
            return No("an OpenCL library is here, but no driver lists a device; install one")
        platforms = sorted({str(chip.platform.name).strip() for chip in chips})
        return Yes(f"{len(chips)} device(s) of {', '.join(platforms)}")

    def inventory(self) -> tuple[DeviceFacts, ...]:
        """List the devices; empty when `available` says no."""
        return tuple(_facts(number, chip) for number, chip in enumerate(self._chips()))

    def usage(self) -> tuple[DeviceUsage, ...]:
        """OpenCL tells nothing of the kind: no device is listed."""
        return ()

    def topology(self) -> Topology:
        """Not told by OpenCL."""
        return Topology(sockets=0, caches=(), memory_nodes=())

    def _chips(self) -> Sequence[Any]:
        try:
            return self._find()
        except EnvironmentProblem:
            return ()


def _facts(number: int, chip: Any) -> DeviceFacts:
    platform = str(chip.platform.name).strip()
    return DeviceFacts(
        uuid=f"opencl-{platform}-{number}",
        name=f"opencl:{number}",
        model=str(chip.name).strip(),
        memory_bytes=int(chip.global_mem_size),
        cores=int(chip.max_compute_units),
        features=tuple(sorted(_INTERESTING & set(str(chip.extensions).split()))),
        driver=f"{platform} {chip.driver_version}",
    )
