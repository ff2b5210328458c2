"""Moore Threads GPUs, through the table of mthreads-gmi."""

import re

from banyan.devices.chip import ChipSpec
from banyan.devices.probing import quantities
from banyan.devices.probing.bus import read_address
from banyan.devices.probing.command import RunCommand
from banyan.devices.probing.record import ChipRecord
from banyan.devices.probing.tables import version_after
from banyan.devices.probing.vendor import Reader, Vendor

CHIP = ChipSpec(
    name="moore_threads",
    vendor="Moore Threads",
    pci_vendor_ids=("1ed5",),
    visible_devices_variable="MUSA_VISIBLE_DEVICES",
    torch_device="musa",
    collective_library="mccl",
    dtypes=("float32", "float16", "bfloat16"),
    status="described",
)

# "0    MTT S80   |00000000:04:00.0   |0%    2MiB(16384MiB)" and, below, "... |49C   YES".
_FIRST = re.compile(r"(\d+)\s+(\S.*?)\s*\|\s*([0-9a-fA-F:.]+)\s*\|\s*(\S+)\s+(\S+?)\((\S+?)\)")
_SECOND = re.compile(r"[^|]*\|[^|]*\|\s*(\S+)\s.*")


def read(run: RunCommand) -> tuple[ChipRecord, ...]:
    """Ask for the table.

    Raises:
        ValueError: there is no such table.
    """
    text = run(("mthreads-gmi",))
    if "mthreads-gmi" not in text:
        raise ValueError("there is no table of GPUs")
    driver = version_after(text, "Driver Version")
    lines = [line.strip() for line in text.splitlines()]
    records = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if (first := _FIRST.fullmatch(line)) is None:
            continue
        second = _SECOND.fullmatch(following)
        records.append(
            ChipRecord(
                index=quantities.read_index(first[1]),
                model=first[2],
                bus=read_address(first[3]),
                memory_bytes=quantities.read_bytes(first[6]),
                memory_used_bytes=quantities.read_bytes(first[5]),
                utilisation=quantities.read_share(first[4]),
                temperature_celsius=None if second is None else quantities.read_celsius(second[1]),
                driver=driver,
            )
        )
    return tuple(records)


VENDOR = Vendor(CHIP, "GPU", (Reader("mthreads-gmi", read),), "the Moore Threads driver")
