"""From a vendor's description to a probe: is the chip on the bus, and what does its tool say?

Every way in which a tool can fail ends in one sentence with the tool's name; none raises.
"""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from banyan.devices.chip import ChipSpec, DeviceFacts, DeviceUsage, No, Topology, Yes
from banyan.devices.probing.bus import PciDevice, is_accelerator, list_pci
from banyan.devices.probing.command import RunCommand, run_command
from banyan.devices.probing.record import ChipRecord

_UNREADABLE = (OSError, subprocess.SubprocessError, ValueError)


@dataclass(frozen=True, slots=True)
class Reader:
    """One tool and how to read it.

    `read` may raise OSError and `subprocess.SubprocessError` as `run_command` does, and
    ValueError for output that it does not understand.
    """

    tool: str
    read: Callable[[RunCommand], Sequence[ChipRecord]]


@dataclass(frozen=True, slots=True)
class Vendor:
    """All that is known of finding one vendor's chips.

    Attributes:
        chip: the family.
        noun: what one of them is called: "GPU", "NPU".
        readers: tools, best first; the next is asked when one is not installed.
        cure: what to install when no tool is there.
        counts: which of the vendor's PCI devices are such chips; a display chip of a server's
            management controller is not, nor is graphics inside a processor.
    """

    chip: ChipSpec
    noun: str
    readers: tuple[Reader, ...]
    cure: str
    counts: Callable[[PciDevice], bool] = is_accelerator


@dataclass(frozen=True, slots=True)
class _Reading:
    tool: str
    records: tuple[ChipRecord, ...]


@final
class VendorProbe:
    """Looks for one vendor's chips in the PCI list under `root`, then asks the vendor's tool."""

    def __init__(
        self, vendor: Vendor, root: Path = Path("/"), run: RunCommand = run_command
    ) -> None:
        self._vendor = vendor
        self._root = root
        self._run = run

    @property
    def chip(self) -> ChipSpec:
        """What is looked for."""
        return self._vendor.chip

    def available(self) -> Yes | No:
        """Say whether chips are on the bus and their tool lists them."""
        name = self.chip.vendor
        on_bus = self._on_bus()
        if not on_bus:
            return No(f"no {name} {self._vendor.noun} in this machine's PCI list")
        reading = self._read()
        if isinstance(reading, No):
            return _present(f"{len(on_bus)} {name} device(s) on the PCI bus, but {reading.reason}")
        listed = len(reading.records)
        if listed == 0:
            return _present(
                f"{len(on_bus)} {name} device(s) on the PCI bus, but {reading.tool} lists none; "
                "check that the driver shows them to this container"
            )
        said = f"{listed} {name} {self._vendor.noun}(s) listed by {reading.tool}"
        # Devices with several chips list more; a tool that lists fewer hides or lost one.
        return Yes(said if listed >= len(on_bus) else f"{said}, {len(on_bus)} on the PCI bus")

    def inventory(self) -> tuple[DeviceFacts, ...]:
        """List the chips; empty when `available` says no."""
        return tuple(record.facts(self.chip.name) for record in self._records())

    def usage(self) -> tuple[DeviceUsage, ...]:
        """Read memory, load, temperature and power of each chip."""
        return tuple(record.usage(self.chip.name) for record in self._records())

    def topology(self) -> Topology:
        """Links between chips are not read yet: no caches and no memory nodes are listed."""
        return Topology(sockets=0, caches=(), memory_nodes=())

    def _on_bus(self) -> tuple[PciDevice, ...]:
        ids = self.chip.pci_vendor_ids
        return tuple(
            device
            for device in list_pci(self._root)
            if device.vendor in ids and self._vendor.counts(device)
        )

    def _records(self) -> tuple[ChipRecord, ...]:
        if not self._on_bus():
            return ()
        reading = self._read()
        return () if isinstance(reading, No) else reading.records

    def _read(self) -> _Reading | No:
        """Ask the first tool that is installed."""
        for reader in self._vendor.readers:
            try:
                records = self._accepted(reader.read(self._run))
            except FileNotFoundError:
                continue
            except _UNREADABLE as error:
                return No(
                    f"{_what_failed(reader.tool, error)}; check the {self.chip.vendor} driver"
                )
            return _Reading(reader.tool, records)
        tools = " or ".join(reader.tool for reader in self._vendor.readers)
        return No(f"the command {tools} is missing; install {self._vendor.cure}")

    def _accepted(self, records: Sequence[ChipRecord]) -> tuple[ChipRecord, ...]:
        """Leave out what the bus says is no such chip: tools list integrated graphics, too."""
        refused = {
            device.address
            for device in list_pci(self._root)
            if not (device.vendor in self.chip.pci_vendor_ids and self._vendor.counts(device))
        }
        kept = tuple(record for record in records if record.bus not in refused)
        if len({record.index for record in kept}) < len(kept):
            raise ValueError("two devices have the same number")
        return kept


def _present(reason: str) -> No:
    return No(reason, is_present=True)


def _what_failed(tool: str, error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{tool} did not answer within {error.timeout:g} s and was stopped"
    if isinstance(error, subprocess.CalledProcessError):
        return f"{tool} failed with exit status {error.returncode} ({_first_line(error.output)})"
    if isinstance(error, ValueError):
        return f"the output of {tool} cannot be read ({_first_line(error)})"
    return f"{tool} failed ({_first_line(error)})"


def _first_line(said: object) -> str:
    lines = [line.strip() for line in str(said or "").splitlines() if line.strip()]
    if lines:
        return lines[0][:160]
    return type(said).__name__ if isinstance(said, Exception) else "it printed nothing"
