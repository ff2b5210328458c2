"""What is known of a chip before any driver is loaded, and how one is found.

Owns the data every device plug-in describes itself with. Pure data and one protocol; the
files named after a chip fill them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ChipSpec:
    """Static description of a family of chips.

    Attributes:
        name: what a person types: "cpu", "cuda".
        vendor: who makes it.
        pci_vendor_ids: the vendor ids it carries in sysfs, without "0x"; empty for a CPU.
        visible_devices_variable: the environment variable that hides devices, if there is one.
        torch_device: the device type PyTorch uses for it, if it has one.
        collective_library: the vendor's library for collective communication, if there is one.
        dtypes: number formats its programs may use.
        status: "verified", "emulated" or "described"; see the support matrix.
        target: the compiler's target whose programs it runs; None where nothing runs on it yet.
    """

    name: str
    vendor: str
    pci_vendor_ids: tuple[str, ...]
    visible_devices_variable: str | None
    torch_device: str | None
    collective_library: str | None
    dtypes: tuple[str, ...]
    status: str
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Yes:
    """A chip is here and can be used; `evidence` says how that is known."""

    evidence: str


@dataclass(frozen=True, slots=True)
class No:
    """A chip cannot be used; `reason` says why and, where it can, what would change that.

    `is_present` says that the chip is in the machine all the same.
    """

    reason: str
    is_present: bool = False


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What does not change while the machine is up.

    Attributes:
        uuid: joins facts and usage; stable over restarts of the process.
        name: "cpu", "cuda:0".
        model: the maker's name of the chip.
        memory_bytes: what one process may use at most.
        cores: processor cores a program can use at once; 1 for a chip that is launched as a whole.
        features: instruction sets or the compute capability, sorted.
        driver: version of the driver, if there is one.
        bus: its PCI address as the kernel writes it, where it is known.
        power_limit_watts: what it may draw at most, where it is known.
    """

    uuid: str
    name: str
    model: str
    memory_bytes: int
    cores: int
    features: tuple[str, ...]
    driver: str | None = None
    bus: str | None = None
    power_limit_watts: float | None = None


@dataclass(frozen=True, slots=True)
class DeviceUsage:
    """What changes: read it again when you need it. `None` means that it cannot be read here."""

    uuid: str
    memory_used_bytes: int
    utilisation: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None


@dataclass(frozen=True, slots=True)
class Cache:
    """One level of cache: `num_bytes` each, shared by the cores in `shared_by`."""

    level: int
    kind: str
    num_bytes: int
    shared_by: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MemoryNode:
    """One NUMA node: the cores near it and the memory behind it."""

    index: int
    cores: tuple[int, ...]
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Topology:
    """How the parts of one kind of device lie to each other."""

    sockets: int
    caches: tuple[Cache, ...]
    memory_nodes: tuple[MemoryNode, ...]


class Probe(Protocol):
    """How one kind of chip is found and looked at; loads no driver library to answer."""

    @property
    def chip(self) -> ChipSpec:
        """What is looked for."""
        ...

    def available(self) -> Yes | No:
        """Say whether this kind of chip can be used here, and how that is known."""
        ...

    def inventory(self) -> Sequence[DeviceFacts]:
        """List the devices; empty when there is none."""
        ...

    def usage(self) -> Sequence[DeviceUsage]:
        """Read the changing facts of every listed device."""
        ...

    def topology(self) -> Topology:
        """Say how caches and memory lie."""
        ...
