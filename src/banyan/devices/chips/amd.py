"""AMD graphics cards and Instinct accelerators, through rocm-smi or its successor amd-smi."""

from collections.abc import Mapping

from banyan.devices.chip import ChipSpec
from banyan.devices.probing import quantities
from banyan.devices.probing.bus import PciDevice, is_accelerator, read_address
from banyan.devices.probing.command import RunCommand
from banyan.devices.probing.record import ChipRecord
from banyan.devices.probing.rocm_json import rocm_reader
from banyan.devices.probing.tables import member, objects, read_json
from banyan.devices.probing.vendor import Reader, Vendor

CHIP = ChipSpec(
    name="amd",
    vendor="AMD",
    pci_vendor_ids=("1002",),
    visible_devices_variable="HIP_VISIBLE_DEVICES",
    torch_device="cuda",
    collective_library="rccl",
    dtypes=("float32", "float16", "bfloat16"),
    status="described",
)

# Cards and accelerators since Graphics Core Next have numbers in this range. Outside it lie the
# graphics of processors (15xx, 16xx, 13xx, 98xx) and the display chips that servers' management
# controllers used (ES1000 515e, Rage XL 4752). Numbers: pci-ids.ucw.cz/read/PC/1002.
_FIRST_CARD = 0x6600
_AFTER_LAST_CARD = 0x8000


def is_card(device: PciDevice) -> bool:
    """Is it a card, and neither graphics inside a processor nor an old server's display chip?"""
    try:
        number = int(device.device, 16)
    except ValueError:
        return False
    return is_accelerator(device) and _FIRST_CARD <= number < _AFTER_LAST_CARD


def read_amd_smi(run: RunCommand) -> tuple[ChipRecord, ...]:
    """Ask amd-smi, for what stays and for what changes.

    Raises:
        ValueError: this is not such output.
    """
    changing = {
        quantities.read_index(gpu.get("gpu")): gpu
        for gpu in _gpus(run(("amd-smi", "metric", "--json")))
    }
    return tuple(
        _record(gpu, changing.get(quantities.read_index(gpu.get("gpu")), {}))
        for gpu in _gpus(run(("amd-smi", "static", "--json")))
    )


def _gpus(text: str) -> list[dict[str, object]]:
    """The objects of all GPUs: a list until ROCm 6, "gpu_data" since."""
    value = read_json(text)
    return objects(member(value, "gpu_data") if isinstance(value, dict) else value, "gpu_data")


def _record(fixed: Mapping[str, object], changing: Mapping[str, object]) -> ChipRecord:
    asic, memory = fixed.get("asic"), changing.get("mem_usage")
    total = _quantity(member(fixed.get("vram"), "size")) or _quantity(member(memory, "total_vram"))
    if not total:
        raise ValueError(f"GPU {fixed.get('gpu')} has no vram.size")
    heat = changing.get("temperature")
    version, driver = (
        member(asic, "target_graphics_version"),
        member(fixed.get("driver"), "version"),
    )
    return ChipRecord(
        index=quantities.read_index(fixed.get("gpu")),
        model=str(member(asic, "market_name") or "unknown model"),
        bus=read_address(str(member(fixed.get("bus"), "bdf"))),
        memory_bytes=quantities.read_bytes(total),
        memory_used_bytes=quantities.read_bytes(_quantity(member(memory, "used_vram"))),
        utilisation=quantities.read_share(_quantity(member(changing.get("usage"), "gfx_activity"))),
        temperature_celsius=quantities.read_celsius(
            _quantity(member(heat, "hotspot")) or _quantity(member(heat, "edge"))
        ),
        power_watts=quantities.read_watts(_quantity(member(changing.get("power"), "socket_power"))),
        driver=str(driver) if driver else None,
        features=(str(version),) if version else (),
    )


def _quantity(value: object) -> str:
    """Write {"value": 612, "unit": "W"} as "612 W"; empty where it is not known."""
    if isinstance(value, dict):
        return f"{value.get('value', '')} {value.get('unit', '')}".strip()
    text = "" if value is None else str(value)
    return "" if text.upper() == "N/A" else text


VENDOR = Vendor(
    CHIP,
    "GPU",
    (rocm_reader("rocm-smi"), Reader("amd-smi", read_amd_smi)),
    "ROCm",
    is_card,
)
