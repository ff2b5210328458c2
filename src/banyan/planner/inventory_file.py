"""Reads the devices a plan may use, and their prices, from TOML text. Pure; see docs/planning.md.

A kind of device is a described card (`banyan.devices.cards`), a measured profile, or numbers. What
was measured comes in as values, so that nothing here looks at a machine.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from banyan.devices.cards import Card, find_card
from banyan.foundation.errors import InputError
from banyan.planner.inventory import DeviceType, Inventory, Link, PlannedDevice
from banyan.planner.quantities import (
    read_bytes,
    read_bytes_per_second,
    read_count,
    read_operations,
    read_price,
    read_seconds,
    read_watts,
    shown,
)
from banyan.planner.toml_table import Table, read_text, read_texts

MOST_DEVICES = 200_000

Kind = Literal["accelerator", "cpu"]
Source = Literal["measured", "described"]

_NUMBERS = ("memory", "bandwidth", "operations", "launch", "watts", "idle_watts")


def read_inventory(
    text: str, profiles: Mapping[str, DeviceType], *, origin: str = "inventory.toml"
) -> Inventory:
    """Read kinds of device, devices and links; prices come with `with_prices`.

    Args:
        text: TOML.
        profiles: what was measured, by the names it may use; "here" is this machine's.
        origin: what errors call it.

    Raises:
        InputError: the first thing that is wrong: an unknown card, key or kind, a quantity that
            is none, a missing link, a name twice.
    """
    table = Table.read(text, origin)
    table.allow("types", "devices", "links")
    types = {name: _type(name, one, profiles) for name, one in table.table("types").named_tables()}
    devices = tuple(_devices(table, types))
    if not devices:
        raise InputError(f"{origin} has no device; add a table [[devices]] with type = ...")
    unused = set(types) - {device.type.name for device in devices}
    if unused:
        raise InputError(
            f"{origin} describes {min(unused)!r} and has no such device; add [[devices]] with "
            f'type = "{min(unused)}", or remove [types.{min(unused)}]'
        )
    return _with_links(table.table("links"), devices)


def with_prices(inventory: Inventory, text: str, *, origin: str = "prices.toml") -> Inventory:
    """Read prices for an hour of each kind of device, and for energy.

    Raises:
        InputError: a kind of the inventory has no price, or a price is none.
    """
    table = Table.read(text, origin)
    table.allow("currency", "per_kilowatt_hour", "per_hour")
    priced = table.table("per_hour")
    names = tuple(dict.fromkeys(device.type.name for device in inventory.devices))
    for name in names:
        if not priced.has(name):
            raise InputError(
                f"{origin} has no price for {name!r}, which the inventory has; add "
                f"{name} = 1.5 to [per_hour], or 0 where it costs nothing"
            )
    # Prices of other kinds are left alone: one list of prices does for many inventories.
    return replace(
        inventory,
        price_per_hour={
            name: read_price(priced.values[name], f"{priced.place}: {name}") for name in names
        },
        price_per_kilowatt_hour=table.optional("per_kilowatt_hour", read_price, 0.0),
        currency=table.optional("currency", read_text, "USD"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """What a card or a profile says of a kind, before the file's own numbers replace it."""

    vendor: str | None = None
    memory: int | None = None
    bandwidth: float | None = None
    operations: Mapping[str, float] | None = None
    launch: float = 0.0
    watts: float = 0.0
    idle_watts: float = 0.0
    kind: Kind = "accelerator"
    source: Source = "described"


def _type(name: str, table: Table, profiles: Mapping[str, DeviceType]) -> DeviceType:
    """One kind: from a card or a profile with some numbers replaced, or from numbers alone."""
    table.allow("card", "profile", "vendor", "kind", *_NUMBERS)
    start = _start(table, profiles)
    # Somebody's word replaced a measurement; less memory or other watts do not change speeds.
    changed = any(table.has(key) for key in ("bandwidth", "operations", "launch"))
    return DeviceType(
        name=name,
        vendor=table.needed("vendor", read_text, start.vendor, example='"Enflame"'),
        memory_bytes=table.needed("memory", read_bytes, start.memory, example='"48GB"'),
        read_bytes_per_second=table.needed(
            "bandwidth", read_bytes_per_second, start.bandwidth, example='"672GB/s"'
        ),
        operations_per_second=table.needed(
            "operations", _operations, start.operations, example='{ bfloat16 = "190T" }'
        ),
        launch_seconds=table.optional("launch", _zero_or_more_seconds, start.launch),
        watts_busy=table.optional("watts", read_watts, start.watts),
        watts_idle=table.optional("idle_watts", read_watts, start.idle_watts),
        kind=table.optional("kind", _kind, start.kind),
        source="described" if changed else start.source,
    )


def _start(table: Table, profiles: Mapping[str, DeviceType]) -> _Start:
    if table.has("card") and table.has("profile"):
        raise InputError(f"{table.place} names a card and a profile; keep one of them")
    if table.has("card"):
        return _from_card(table.value("card", _card, example='"H200"'))
    if table.has("profile"):
        return _from_profile(_profile(table, profiles))
    return _Start()


def _card(value: object, name: str) -> Card:
    try:
        return find_card(read_text(value, name))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _from_card(card: Card) -> _Start:
    return _Start(
        vendor=card.vendor,
        memory=card.memory_bytes,
        bandwidth=card.read_bytes_per_second,
        operations=card.peaks() or None,
        watts=card.watts or 0.0,
    )


def _profile(table: Table, profiles: Mapping[str, DeviceType]) -> DeviceType:
    name = table.value("profile", read_text, example='"here"')
    if name not in profiles:
        raise InputError(
            f"{table.place}: profile={shown(name)} is not known; there are "
            f"{', '.join(profiles) or 'none'}; banyan devices --measure makes 'here'"
        )
    return profiles[name]


def _from_profile(device: DeviceType) -> _Start:
    return _Start(
        vendor=device.vendor,
        memory=device.memory_bytes,
        bandwidth=device.read_bytes_per_second,
        operations=device.operations_per_second,
        launch=device.launch_seconds,
        watts=device.watts_busy,
        idle_watts=device.watts_idle,
        kind=device.kind,
        source=device.source,
    )


def _kind(value: object, name: str) -> Kind:
    if value == "cpu":
        return "cpu"
    if value != "accelerator":
        raise InputError(f'{name}={shown(value)} cannot be used; write "accelerator" or "cpu"')
    return "accelerator"


def _operations(value: object, name: str) -> Mapping[str, float]:
    if not isinstance(value, dict) or not value:
        raise InputError(
            f'{name}={shown(value)} cannot be used; write dtypes, such as {{ bfloat16 = "190T" }}'
        )
    return {dtype: read_operations(rate, f"{name}.{dtype}") for dtype, rate in value.items()}


def _zero_or_more_seconds(value: object, name: str) -> float:
    return read_seconds(value, name, zero=True)


def _devices(table: Table, types: Mapping[str, DeviceType]) -> Iterator[PlannedDevice]:
    seen: dict[str, str] = {}
    for group in table.tables("devices"):
        for device in _group(group, types):
            if device.name in seen:
                raise InputError(
                    f"{group.place} has a device {device.name!r}, as {seen[device.name]} has; give "
                    "one of them another name"
                )
            seen[device.name] = group.place
            if len(seen) > MOST_DEVICES:
                raise InputError(f"{group.place} goes beyond {MOST_DEVICES} devices; list fewer")
            yield device


def _group(table: Table, types: Mapping[str, DeviceType]) -> Iterator[PlannedDevice]:
    """`count` devices on each of `hosts` hosts."""
    table.allow("type", "name", "host", "count", "hosts")
    kind = table.value("type", read_text, example='"h200"')
    if kind not in types:
        raise InputError(
            f"{table.place}: type={shown(kind)} is described nowhere; add [types.{kind}], or use "
            f"one of {', '.join(types) or 'those that are (none yet)'}"
        )
    name = table.optional("name", read_text, kind)
    host = table.optional("host", read_text, "here")
    count = table.optional("count", _count, 1)
    num_hosts = table.optional("hosts", _count, 1)
    if count * num_hosts > MOST_DEVICES:
        raise InputError(
            f"{table.place} has {count} x {num_hosts} devices; at most {MOST_DEVICES} are planned"
        )
    for place in _numbered(host, num_hosts):
        for one in _numbered(name, count):
            full = one if num_hosts == 1 else f"{place}/{one}"
            yield PlannedDevice(full, types[kind], place)


def _numbered(name: str, count: int) -> Iterator[str]:
    return iter((name,)) if count == 1 else (f"{name}-{number}" for number in range(count))


def _count(value: object, name: str) -> int:
    return read_count(value, name, most=MOST_DEVICES)


def _with_links(table: Table, devices: tuple[PlannedDevice, ...]) -> Inventory:
    table.allow("within_host", "between_hosts", "pairs")
    names = {device.name for device in devices}
    hosts = {device.host for device in devices}
    pairs = dict(_pair(pair, names, hosts) for pair in table.tables("pairs"))
    apart = table.values.get("between_hosts") is False
    between = (
        _link(table.table("between_hosts")) if table.has("between_hosts") and not apart else None
    )
    if between is None and not apart:
        _need_links(table, devices, pairs)
    if table.has("within_host"):
        within = _link(table.table("within_host"))
    elif len(hosts) == len(devices):
        # Nothing travels here but from a device to itself.
        within = Link(math.inf)
    else:
        raise InputError(
            f"{table.place} does not say what lies between devices of one host; add within_host = "
            '{ bandwidth = "50GB/s", latency = "5us" }'
        )
    return Inventory(devices=devices, within_host=within, between_hosts=between, links=pairs)


def _need_links(
    table: Table, devices: Sequence[PlannedDevice], pairs: Mapping[tuple[str, str], Link]
) -> None:
    """Without a link for all, each host needs one of its own, or it is a mistake."""
    ends = {name for pair in pairs for name in pair}
    linked = {device.host for device in devices if ends & {device.name, device.host}}
    alone = {device.host for device in devices} - linked
    if alone and len(alone | linked) > 1:
        raise InputError(
            f"{table.place} does not say what lies between {min(alone)!r} and other hosts; add "
            'between_hosts = { bandwidth = "25Gbit/s", latency = "50us" }, or between_hosts = '
            "false where they do not reach each other"
        )


def _pair(table: Table, names: set[str], hosts: set[str]) -> tuple[tuple[str, str], Link]:
    table.allow("between", "bandwidth", "latency")
    ends = table.value("between", read_texts, example='["left", "right"]')
    if len(ends) != 2 or ends[0] == ends[1]:
        raise InputError(f"{table.place}: between={shown(ends)} must name two, each another")
    for end in ends:
        if end not in names and end not in hosts:
            raise InputError(
                f"{table.place}: {end!r} is neither a device nor a host of this inventory; name "
                f"one, such as {min(names)!r} or {min(hosts)!r}"
            )
    if not (set(ends) <= names or set(ends) <= hosts):
        raise InputError(
            f"{table.place}: between={shown(ends)} mixes a device with a host; name two of a kind"
        )
    return (ends[0], ends[1]), _link(replace(table, values=_without(table.values, "between")))


def _link(table: Table) -> Link:
    table.allow("bandwidth", "latency")
    return Link(
        table.value("bandwidth", read_bytes_per_second, example='"25Gbit/s"'),
        table.optional("latency", _zero_or_more_seconds, 0.0),
    )


def _without(values: Mapping[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in values.items() if name != key}
