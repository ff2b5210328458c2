"""MetaX GPUs, through the table of mx-smi."""

import re

from banyan.devices.chip import ChipSpec
from banyan.devices.probing import quantities
from banyan.devices.probing.bus import read_address
from banyan.devices.probing.command import RunCommand
from banyan.devices.probing.record import ChipRecord
from banyan.devices.probing.tables import boxed_rows, first_word, version_after
from banyan.devices.probing.vendor import Reader, Vendor

CHIP = ChipSpec(
    name="metax",
    vendor="MetaX",
    pci_vendor_ids=("9999",),
    visible_devices_variable="CUDA_VISIBLE_DEVICES",
    torch_device="cuda",
    collective_library="mccl",
    dtypes=("float32", "float16", "bfloat16"),
    status="described",
)

# "45C         48W / 350W", without the limit before release 2.2.
_HEAT_AND_POWER = re.compile(r"(\S+)\s+(\S+)(?:\s*/\s*(\S+))?")
_MEMORY = re.compile(r"(\d+)\s*/\s*(\d+\s*\w*)")


def read(run: RunCommand) -> tuple[ChipRecord, ...]:
    """Ask for the table.

    Raises:
        ValueError: there is no such table, or a row of it is not understood.
    """
    text = run(("mx-smi",))
    if "MX-SMI" not in text:
        raise ValueError("there is no table of GPUs")
    driver = version_after(text, "Kernel Mode Driver Version")
    return tuple(
        _record(first, second, driver)
        for first, second in boxed_rows(text, 3)
        if first[0][:1].isdigit()
    )


def _record(first: tuple[str, ...], second: tuple[str, ...], driver: str | None) -> ChipRecord:
    index, _, model = first[0].partition(" ")
    heat = _HEAT_AND_POWER.fullmatch(second[0])
    memory = _MEMORY.fullmatch(second[1])
    if heat is None or memory is None:
        raise ValueError(f"the row of GPU {index[:10]!r} is not understood")
    return ChipRecord(
        index=quantities.read_index(index),
        model=model.strip() or "unknown model",
        bus=read_address(first[1]),
        memory_bytes=quantities.read_bytes(memory[2]),
        memory_used_bytes=quantities.read_bytes(memory[1]),
        utilisation=quantities.read_share(first_word(first[2])),
        temperature_celsius=quantities.read_celsius(heat[1]),
        power_watts=quantities.read_watts(heat[2]),
        power_limit_watts=quantities.read_watts(heat[3]),
        driver=driver,
    )


VENDOR = Vendor(CHIP, "GPU", (Reader("mx-smi", read),), "the MetaX driver (MACA)")
