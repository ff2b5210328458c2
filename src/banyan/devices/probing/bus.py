"""The PCI list of the machine, as the kernel shows it: no driver and no tool is needed for it."""

import re
from dataclasses import dataclass
from pathlib import Path

_ADDRESS = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")


@dataclass(frozen=True, slots=True)
class PciDevice:
    """One function of one device.

    Attributes:
        address: "0000:01:00.0".
        vendor: four hexadecimal digits: "10de".
        device: the maker's number of the model, likewise.
        kind: class, subclass and interface: "030200".
    """

    address: str
    vendor: str
    device: str
    kind: str


def list_pci(root: Path) -> tuple[PciDevice, ...]:
    """List the PCI devices that the kernel shows under `root`; empty where it shows none."""
    folder = root / "sys/bus/pci/devices"
    found = []
    try:
        places = sorted(folder.iterdir())
    except OSError:
        return ()
    for place in places:
        try:
            values = [
                (place / name).read_text(encoding="ascii", errors="replace").strip()
                for name in ("vendor", "device", "class")
            ]
        except OSError:
            continue
        vendor, device, kind = (value.lower().removeprefix("0x") for value in values)
        found.append(PciDevice(place.name.lower(), vendor, device, kind))
    return tuple(found)


def is_accelerator(device: PciDevice) -> bool:
    """Is it a display controller (class 03, with 3D controllers) or an accelerator (12)?

    Keeps out a vendor's other devices: network cards, bridges, the sound of a graphics card.
    """
    return device.kind.startswith(("03", "12"))


def read_address(text: str) -> str | None:
    """Write an address of a tool as the kernel does: "00000000:0C:00.0" is "0000:0c:00.0".

    None where the text does not begin with an address.
    """
    found = _ADDRESS.match(text.strip().lower())
    if found is None:
        return None
    domain, bus, slot, function = found.groups()
    return f"{domain[-4:]}:{bus}:{slot}.{function}"
