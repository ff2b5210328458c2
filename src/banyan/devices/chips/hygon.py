"""Hygon DCUs, through hy-smi, which speaks as rocm-smi does."""

from banyan.devices.chip import ChipSpec
from banyan.devices.probing.bus import PciDevice, is_accelerator
from banyan.devices.probing.rocm_json import rocm_reader
from banyan.devices.probing.vendor import Vendor

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


VENDOR = Vendor(
    CHIP,
    "DCU",
    # The second is the name that the tool had in older releases of DTK.
    (rocm_reader("hy-smi"), rocm_reader("rocm-smi")),
    "the DCU driver and DTK",
    is_dcu,
)
