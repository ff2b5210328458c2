"""Cambricon MLUs, through cnmon: its JSON where it has one, else its table."""

import re
import subprocess

from banyan.devices.chip import ChipSpec
from banyan.devices.probing import quantities
from banyan.devices.probing.command import RunCommand
from banyan.devices.probing.record import ChipRecord
from banyan.devices.probing.tables import boxed_rows, first_word, member, objects, read_json
from banyan.devices.probing.vendor import Reader, Vendor

CHIP = ChipSpec(
    name="cambricon",
    vendor="Cambricon",
    pci_vendor_ids=("cabc",),
    visible_devices_variable="MLU_VISIBLE_DEVICES",
    torch_device="mlu",
    collective_library="cncl",
    dtypes=("float32", "float16", "bfloat16"),
    status="described",
)

_CARD = re.compile(r"(\d+)\s*/\s+(?:\d+\s+)?(\S+)\s+(\S+)")
_HEAT_AND_POWER = re.compile(r"\S+\s+(\S+)\s+(.+?)\s*/\s*(.+)")
_MEMORY = re.compile(r"(.+?)\s*/\s*(.+)")


def read(run: RunCommand) -> tuple[ChipRecord, ...]:
    """Ask for JSON, which cnmon writes to a file; older ones know only the table.

    Raises:
        ValueError: neither is understood.
    """
    try:
        written = run(("cnmon", "info", "-e", "-m", "-u", "-j"), writes="cnmon_info.json")
    except (FileNotFoundError, subprocess.TimeoutExpired):
        raise
    except (OSError, subprocess.CalledProcessError):
        return read_table(run(("cnmon",)))
    return read_info(written)


def read_info(text: str) -> tuple[ChipRecord, ...]:
    """Read cnmon_info.json.

    Raises:
        ValueError: it is not such a file.
    """
    cards = objects(member(read_json(text), "CnmonInfo"), "CnmonInfo")
    records = []
    for card in cards:
        memory = card.get("PhysicalMemUsage")
        total = quantities.read_bytes(member(memory, "Total"))
        if total is None:
            raise ValueError("a card has no PhysicalMemUsage.Total")
        records.append(
            ChipRecord(
                index=quantities.read_index(card.get("CardNum")),
                model=str(card.get("ProductName") or "MLU"),
                uuid=str(card.get("UUID") or ""),
                memory_bytes=total,
                memory_used_bytes=quantities.read_bytes(member(memory, "Used")),
                utilisation=quantities.read_share(member(card.get("Utilization"), "MLUAverage")),
                temperature_celsius=quantities.read_celsius(
                    member(card.get("Temperature"), "Chip")
                ),
            )
        )
    return tuple(records)


def read_table(text: str) -> tuple[ChipRecord, ...]:
    """Read what `cnmon` draws.

    Raises:
        ValueError: a row is not understood, or there is no table.
    """
    if "CNMON" not in text.upper() and "MLU" not in text:
        raise ValueError("there is no table of MLUs")
    return tuple(
        _record(first, second)
        for first, second in boxed_rows(text, 3)
        if _CARD.match(first[0]) is not None
    )


def _record(first: tuple[str, ...], second: tuple[str, ...]) -> ChipRecord:
    card, heat, memory = (
        _CARD.match(first[0]),
        _HEAT_AND_POWER.fullmatch(second[0]),
        _MEMORY.fullmatch(second[1]),
    )
    if card is None or heat is None or memory is None:
        raise ValueError(f"the row of card {first[0][:20]!r} is not understood")
    return ChipRecord(
        index=quantities.read_index(card[1]),
        model=card[2],
        memory_bytes=quantities.read_bytes(memory[2]),
        memory_used_bytes=quantities.read_bytes(memory[1]),
        utilisation=quantities.read_share(first_word(first[2])),
        temperature_celsius=quantities.read_celsius(heat[1]),
        power_watts=quantities.read_watts(heat[2]),
        power_limit_watts=quantities.read_watts(heat[3]),
        driver=(*reversed(first[1].split()), None)[0],
    )


VENDOR = Vendor(CHIP, "MLU", (Reader("cnmon", read),), "the Cambricon driver")
