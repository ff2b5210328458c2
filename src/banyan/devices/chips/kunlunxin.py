"""Kunlunxin XPUs, through the machine-readable lines of xpu-smi (of the same name as Intel's)."""

import shlex

from banyan.devices.chip import ChipSpec
from banyan.devices.probing import quantities
from banyan.devices.probing.bus import read_address
from banyan.devices.probing.command import RunCommand
from banyan.devices.probing.record import ChipRecord
from banyan.devices.probing.vendor import Reader, Vendor

CHIP = ChipSpec(
    name="kunlunxin",
    vendor="Kunlunxin",
    pci_vendor_ids=("1d22", "2057"),
    visible_devices_variable="XPU_VISIBLE_DEVICES",
    torch_device="cuda",
    collective_library="bkcl",
    dtypes=("float32", "float16", "bfloat16"),
    status="described",
)

# Columns of `xpu-smi -m`; what the others hold is not documented.
_INDEX, _SERIAL, _HEAT, _POWER, _USED, _TOTAL, _LOAD, _MODEL = 2, 3, 4, 8, 17, 18, 19, 21
# A K200 tells milliwatts, a P800 watts; no card draws so many watts.
_MOST_WATTS = 5000.0


def read_old_name(run: RunCommand) -> tuple[ChipRecord, ...]:
    """Ask by the name that only Kunlunxin's tool has."""
    return read_lines(run(("xpu_smi", "-m")))


def read_new_name(run: RunCommand) -> tuple[ChipRecord, ...]:
    """Ask by the name that Intel's tool has, too: its answer has no line that begins as ours do."""
    return read_lines(run(("xpu-smi", "-m")))


def read_lines(text: str) -> tuple[ChipRecord, ...]:
    """Read one line per chip; lines that do not begin with a PCI address are headings.

    Raises:
        ValueError: no line is one of a chip, or one is cut short.
    """
    records = []
    for line in text.splitlines():
        bus = read_address(line)
        if bus is not None:
            records.append(_record(bus, shlex.split(line)))
    if not records:
        raise ValueError("no line begins with a PCI address; is this Kunlunxin's xpu-smi?")
    return tuple(records)


def _record(bus: str, columns: list[str]) -> ChipRecord:
    if len(columns) <= _MODEL:
        raise ValueError(f"a line has {len(columns)} columns, fewer than {_MODEL + 1}")
    power = quantities.read_watts(columns[_POWER])
    if power is not None and power > _MOST_WATTS:
        power /= 1000
    return ChipRecord(
        index=quantities.read_index(columns[_INDEX]),
        model=columns[_MODEL],
        # The chips of one card share its serial number.
        uuid=f"{columns[_SERIAL]}-{columns[_INDEX]}",
        bus=bus,
        memory_bytes=quantities.read_bytes(columns[_TOTAL]),
        memory_used_bytes=quantities.read_bytes(columns[_USED]),
        utilisation=quantities.read_share(columns[_LOAD]),
        temperature_celsius=quantities.read_celsius(columns[_HEAT]),
        power_watts=power,
    )


VENDOR = Vendor(
    CHIP,
    "XPU",
    (Reader("xpu_smi", read_old_name), Reader("xpu-smi", read_new_name)),
    "the Kunlunxin driver (XRE)",
)
