"""Intel GPUs (Max, Flex, Arc), through the JSON of xpu-smi (of the same name as Kunlunxin's)."""

import subprocess

from banyan.devices.chip import ChipSpec
from banyan.devices.probing import quantities
from banyan.devices.probing.bus import PciDevice, read_address
from banyan.devices.probing.command import RunCommand
from banyan.devices.probing.record import ChipRecord
from banyan.devices.probing.tables import member, objects, read_json
from banyan.devices.probing.vendor import Reader, Vendor

CHIP = ChipSpec(
    name="intel",
    vendor="Intel",
    pci_vendor_ids=("8086",),
    visible_devices_variable="ZE_AFFINITY_MASK",
    torch_device="xpu",
    collective_library="oneccl",
    dtypes=("float32", "float16", "bfloat16"),
    status="described",
)

_INTEGRATED = "00:02.0"


def is_card(device: PciDevice) -> bool:
    """Is it a display controller, and not the one inside the processor, which is at 00:02.0?"""
    return device.kind.startswith("03") and not device.address.endswith(f":{_INTEGRATED}")


def read(run: RunCommand) -> tuple[ChipRecord, ...]:
    """List the devices, then ask for each one's memory and load.

    Raises:
        ValueError: this is not Intel's xpu-smi, or it reports an error.
    """
    listed = read_json(run(("xpu-smi", "discovery", "-j")))
    if (error := member(listed, "error")) is not None:
        raise ValueError(f"it reports: {error}")
    devices = objects(member(listed, "device_list"), "device_list")
    return tuple(
        _record(device, run)
        for device in devices
        # Virtual functions are parts of a physical one.
        if device.get("device_type", "GPU") == "GPU"
        and device.get("device_function_type", "physical") == "physical"
    )


def _record(device: dict[str, object], run: RunCommand) -> ChipRecord:
    index = quantities.read_index(device.get("device_id"))
    details = read_json(run(("xpu-smi", "discovery", "-d", str(index), "-j")))
    total = quantities.read_bytes(member(details, "memory_physical_size_byte"), "b")
    if total is None:
        raise ValueError(f"device {index} has no memory_physical_size_byte")
    levels = _read_levels(index, run)
    driver = member(details, "driver_version")
    return ChipRecord(
        index=index,
        model=str(device.get("device_name") or "unknown model"),
        uuid=str(device.get("uuid") or ""),
        bus=read_address(str(device.get("pci_bdf_address"))),
        memory_bytes=total,
        memory_used_bytes=quantities.read_bytes(levels.get("XPUM_STATS_MEMORY_USED")),
        utilisation=quantities.read_share(levels.get("XPUM_STATS_GPU_UTILIZATION")),
        temperature_celsius=quantities.read_celsius(levels.get("XPUM_STATS_GPU_CORE_TEMPERATURE")),
        power_watts=quantities.read_watts(levels.get("XPUM_STATS_POWER")),
        driver=str(driver) if driver else None,
    )


def _read_levels(index: int, run: RunCommand) -> dict[str, object]:
    """What changes; empty where this user may not read it, which needs rights of its own."""
    try:
        stats = read_json(run(("xpu-smi", "stats", "-d", str(index), "-j")))
    except subprocess.CalledProcessError:
        return {}
    metrics = objects(member(stats, "device_level") or [], "device_level")
    return {str(metric.get("metrics_type")): metric.get("value") for metric in metrics}


VENDOR = Vendor(
    CHIP, "GPU", (Reader("xpu-smi", read),), "Intel's xpu-smi and the GPU driver", is_card
)
