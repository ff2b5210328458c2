"""Reads the JSON of rocm-smi and of its relative hy-smi: one object per card."""

import re
from collections.abc import Mapping, Sequence

from banyan.devices.probing import quantities
from banyan.devices.probing.bus import read_address
from banyan.devices.probing.command import RunCommand
from banyan.devices.probing.record import ChipRecord
from banyan.devices.probing.tables import member, read_json
from banyan.devices.probing.vendor import Reader

_OPTIONS = (
    "--showproductname",
    "--showmeminfo",
    "vram",
    "--showuse",
    "--showtemp",
    "--showpower",
    "--showmaxpower",
    "--showuniqueid",
    "--showbus",
    "--showdriverversion",
    "--json",
)

# Names differ between AMD and Hygon, and between versions of each.
_TOTAL = r"vram total memory \((b|kib|mib)\)"
_USED = r"vram total used memory \((b|kib|mib)\)"
_LOAD = r"(?:gpu|dcu|hcu) use \((%)\)"
_DRAWN = r"(?:average graphics package|current socket graphics package) power \((w)\)"
_LIMIT = r"max graphics package power \((w)\)"
_HEAT = r"temperature \(sensor (?:junction|edge|core|mem|memory)\) \((c)\)"
_MODELS = ("Card Series", "Card series", "Device Name", "Card Model", "Card model", "Device ID")


def rocm_reader(tool: str) -> Reader:
    """How to ask a tool that speaks as rocm-smi does."""

    def read(run: RunCommand) -> tuple[ChipRecord, ...]:
        return read_cards(run((tool, *_OPTIONS)))

    return Reader(tool, read)


def read_cards(text: str) -> tuple[ChipRecord, ...]:
    """Read every card.

    Raises:
        ValueError: this is not such output.
    """
    value = read_json(text)
    if not isinstance(value, dict):
        raise ValueError("the JSON is not an object of cards")
    driver = member(value.get("system"), "Driver version")
    records = []
    for name, card in value.items():
        if (found := re.fullmatch(r"card(\d{1,4})", name)) is None:
            continue
        if not isinstance(card, dict):
            raise ValueError(f"{name} is not an object")
        records.append(_record(int(found[1]), card, None if driver is None else str(driver)))
    return tuple(sorted(records, key=lambda record: record.index))


def _record(index: int, card: Mapping[str, object], driver: str | None) -> ChipRecord:
    total, total_unit = _find(card, _TOTAL)
    if total is None:
        raise ValueError(f"card{index} has no total memory")
    used, used_unit = _find(card, _USED)
    feature = _text(card, ("GFX Version",))
    identity = _text(card, ("Unique ID",))
    return ChipRecord(
        index=index,
        model=_text(card, _MODELS) or "unknown model",
        uuid="" if identity.lower() in {"n/a", "0x0"} else identity,
        bus=read_address(_text(card, ("PCI Bus",))),
        memory_bytes=quantities.read_bytes(total, total_unit),
        memory_used_bytes=quantities.read_bytes(used, used_unit or "mib"),
        utilisation=quantities.read_share(_find(card, _LOAD)[0]),
        temperature_celsius=quantities.read_celsius(_find(card, _HEAT)[0]),
        power_watts=quantities.read_watts(_find(card, _DRAWN)[0]),
        power_limit_watts=quantities.read_watts(_find(card, _LIMIT)[0]),
        driver=driver,
        features=(feature,) if feature and feature.lower() != "n/a" else (),
    )


def _find(card: Mapping[str, object], pattern: str) -> tuple[object, str]:
    """The first value under a name like `pattern`, and the unit in that name."""
    for name, value in card.items():
        found = re.fullmatch(pattern, name.strip().lower())
        if found is not None and str(value).strip().upper() != "N/A":
            return value, found[1]
    return None, ""


def _text(card: Mapping[str, object], names: Sequence[str]) -> str:
    for name in names:
        if str(card.get(name, "")).strip():
            return str(card[name]).strip()
    return ""
