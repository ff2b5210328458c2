"""Huawei Ascend NPUs, through the table of npu-smi and its list of logical numbers."""

import re

from banyan.devices.chip import ChipSpec
from banyan.devices.probing import quantities
from banyan.devices.probing.bus import PciDevice, read_address
from banyan.devices.probing.command import RunCommand
from banyan.devices.probing.record import ChipRecord
from banyan.devices.probing.tables import boxed_rows, first_word, version_after
from banyan.devices.probing.vendor import Reader, Vendor

CHIP = ChipSpec(
    name="ascend",
    vendor="Huawei Ascend",
    pci_vendor_ids=("19e5",),
    visible_devices_variable="ASCEND_RT_VISIBLE_DEVICES",
    torch_device="npu",
    collective_library="hccl",
    dtypes=("float32", "float16", "bfloat16"),
    status="described",
)

_USED_OF_TOTAL = re.compile(r"(\d+)\s*/\s*(\d+)")
_LOGICAL = re.compile(r"(\d+)\s+(\d+)\s+(\d+)\s+(\S.*)")


def is_npu(device: PciDevice) -> bool:
    """NPUs are processing accelerators (12); 19e5:1711, a server's iBMC, is a display (03)."""
    return device.kind.startswith("12")


def read(run: RunCommand) -> tuple[ChipRecord, ...]:
    """Ask for the table, and for the numbers by which the runtime calls the chips.

    Raises:
        ValueError: a chip of the table has no logical number; guessing could take another's card.
    """
    table = run(("npu-smi", "info"))
    driver = version_after(table, "Version")
    logical = read_logical_numbers(run(("npu-smi", "info", "-m")))
    rows = [(a, b) for a, b in boxed_rows(table, 3) if a[0][:1].isdigit()]
    if not rows and "NPU" not in table:
        raise ValueError("there is no table of NPUs")
    return tuple(_record(first, second, logical, driver) for first, second in rows)


def read_logical_numbers(text: str) -> dict[tuple[int, int], tuple[int, str]]:
    """(NPU, chip) -> (number in the runtime, model), from `npu-smi info -m`.

    Management controllers of a card, listed with "-" for a number, are left out.
    """
    found = {}
    for line in text.splitlines():
        if (match := _LOGICAL.fullmatch(line.strip())) is not None:
            npu, chip, number = (int(match[part]) for part in (1, 2, 3))
            found[npu, chip] = (number, match[4].strip())
    return found


def _record(
    first: tuple[str, ...],
    second: tuple[str, ...],
    logical: dict[tuple[int, int], tuple[int, str]],
    driver: str | None,
) -> ChipRecord:
    """One chip: "0 910B3 | OK | 92.9 37 0 / 0" and "0 | 0000:C1:00.0 | 0 0 / 0 3379 / 65536"."""
    npu, chip = (quantities.read_index(first_word(cells[0])) for cells in (first, second))
    if (npu, chip) not in logical:
        raise ValueError(f"NPU {npu} chip {chip} has no logical number in npu-smi info -m")
    number, model = logical[npu, chip]
    power, celsius = (*first[2].split(), "", "")[:2]
    pairs = _USED_OF_TOTAL.findall(second[2])
    if not pairs:
        raise ValueError(f"no memory in {second[2]!r}")
    used, total = pairs[-1]  # the memory on the package stands last, where there is any
    return ChipRecord(
        index=number,
        model=model,
        bus=read_address(second[1]),
        memory_bytes=quantities.read_bytes(total),
        memory_used_bytes=quantities.read_bytes(used),
        utilisation=quantities.read_share(first_word(second[2])),
        temperature_celsius=quantities.read_celsius(celsius),
        power_watts=quantities.read_watts(power),
        driver=driver,
    )


VENDOR = Vendor(CHIP, "NPU", (Reader("npu-smi", read),), "the Ascend driver", is_npu)
