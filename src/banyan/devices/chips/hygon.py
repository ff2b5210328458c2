"""Hygon DCUs, through hy-smi, which speaks as rocm-smi does."""

from banyan.devices.chip import ChipSpec
from banyan.devices.probing.bus import PciDevice, is_accelerator
from banyan.devices.probing.command import RunCommand
from banyan.devices.probing.record import ChipRecord
from banyan.devices.probing.rocm_json import OPTIONS, read_cards
from banyan.devices.probing.vendor import Reader, Vendor

CHIP = ChipSpec(
    name="hygon",
    vendor="Hygon",
    pci_vendor_ids=("1d94",),
    visible_devices_variable="HIP_VISIBLE_DEVICES",
    torch_device="cuda",
    collective_library="rccl",
    dtypes=("float32", "float16", "bfloat16"),
    status="described",
)


def is_dcu(device: PciDevice) -> bool:
    """Newer DCUs call themselves co-processors (0b40).

    Hygon's processors share the vendor's number; their bridges and their encryption controller
    (class 1080) are not counted.
    """
    return is_accelerator(device) or device.kind.startswith("0b40")


def read_hy_smi(run: RunCommand) -> tuple[ChipRecord, ...]:
    """Ask hy-smi."""
    return read_cards(run(("hy-smi", *OPTIONS)))


def read_rocm_smi(run: RunCommand) -> tuple[ChipRecord, ...]:
    """Ask the tool by the name it had in older releases of DTK."""
    return read_cards(run(("rocm-smi", *OPTIONS)))


VENDOR = Vendor(
    CHIP,
    "DCU",
    (Reader("hy-smi", read_hy_smi), Reader("rocm-smi", read_rocm_smi)),
    "the DCU driver and DTK",
    is_dcu,
)
