"""Which vendors are known: a file each in a folder, and plug-ins of other distributions.

A plug-in names itself in the entry-point group `banyan.chips`: a `Vendor`, or a function that
makes a `Probe`. One that cannot be loaded is reported with its name, and nothing else suffers.
"""

import pkgutil
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import final

from banyan.devices.chip import ChipSpec, DeviceFacts, DeviceUsage, No, Probe, Topology
from banyan.devices.probing.vendor import Vendor, VendorProbe

GROUP = "banyan.chips"


@final
class BrokenPlugIn:
    """Stands for a plug-in that cannot be used, so that its owner learns why."""

    def __init__(self, name: str, reason: str) -> None:
        self._name = name
        self._reason = reason

    @property
    def chip(self) -> ChipSpec:
        """Nothing is known but the name."""
        return ChipSpec(self._name, "unknown", (), None, None, None, (), "described")

    def available(self) -> No:
        """Say why it cannot be used."""
        return No(self._reason)

    def inventory(self) -> tuple[DeviceFacts, ...]:
        """List nothing."""
        return ()

    def usage(self) -> tuple[DeviceUsage, ...]:
        """Nothing is listed, so nothing is used."""
        return ()

    def topology(self) -> Topology:
        """Nothing is known of it."""
        return Topology(sockets=0, caches=(), memory_nodes=())


def vendor_probes(folder: ModuleType) -> tuple[Probe, ...]:
    """Make the probes of a package by its modules' names; each module has a `VENDOR`."""
    names = sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
    vendors = [import_module(f"{folder.__name__}.{name}").VENDOR for name in names]
    return tuple(VendorProbe(vendor) for vendor in vendors)


def installed_plug_ins() -> tuple[EntryPoint, ...]:
    """List what other distributions offer, by name."""
    return tuple(sorted(entry_points(group=GROUP), key=lambda entry: entry.name))


def plug_in_probes(entries: Iterable[EntryPoint], taken: Sequence[str]) -> tuple[Probe, ...]:
    """Make the probes of plug-ins; `taken` are the names of chips that are known already."""
    probes: list[Probe] = []
    for entry in entries:
        names = [*taken, *(probe.chip.name for probe in probes)]
        probes.append(_load(entry, names))
    return tuple(probes)


def _load(entry: EntryPoint, taken: Sequence[str]) -> Probe:
    def broken(reason: str) -> BrokenPlugIn:
        return BrokenPlugIn(
            entry.name, f"the plug-in {entry.value} {reason}; update it or uninstall it"
        )

    # A plug-in is somebody else's program: whatever it raises must not end `banyan devices`.
    try:
        probe = _probe_of(entry.load())
        name = probe.chip.name
    except Exception as error:
        return broken(f"cannot be loaded ({type(error).__name__}: {error})")
    if name in taken:
        return broken(f"names its chip {name!r}, as another chip is named")
    return probe


def _probe_of(offered: Vendor | Callable[[], Probe]) -> Probe:
    if isinstance(offered, Vendor):
        return VendorProbe(offered)
    if not callable(offered):
        raise TypeError(f"it is a {type(offered).__name__}, neither a Vendor nor a function")
    return offered()
