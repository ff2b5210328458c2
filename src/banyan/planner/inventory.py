"""The devices a plan may use, and what lies between them. Frozen values; nothing is looked up.

Rates are per second, memory in bytes. Called by everything that plans, predicts or simulates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from banyan.foundation.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceType:
    """What every device of one kind can do.

    Attributes:
        name: what a person calls it: "h200", "s60", "this-cpu".
        kind: "accelerator" or "cpu"; only CPUs are asked to take attention or experts off others.
        vendor: who makes it; one process drives one vendor's devices.
        memory_bytes: what a model may take of it, weights and cache together.
        read_bytes_per_second: from its own memory.
        operations_per_second: dtype -> multiplications and additions of large products.
        launch_seconds: what starting one kernel or program costs.
        watts_busy: electric power under load; 0 where it is not known.
        watts_idle: the same while it waits.
        source: "measured" on such a device, or "described" by its maker.
    """

    name: str
    vendor: str
    memory_bytes: int
    read_bytes_per_second: float
    operations_per_second: Mapping[str, float]
    launch_seconds: float = 0.0
    watts_busy: float = 0.0
    watts_idle: float = 0.0
    source: Literal["measured", "described"] = "described"
    kind: Literal["accelerator", "cpu"] = "accelerator"


@dataclass(frozen=True, slots=True)
class PlannedDevice:
    """One device: its name is unique in the inventory."""

    name: str
    type: DeviceType
    host: str


@dataclass(frozen=True, slots=True)
class Link:
    """What one transfer costs: `seconds` to begin, then `bytes_per_second`."""

    bytes_per_second: float
    seconds: float = 0.0

    def transfer_seconds(self, num_bytes: float) -> float:
        """Time until the last byte is there."""
        return self.seconds + num_bytes / self.bytes_per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Devices and links.

    Attributes:
        devices: in the order in which a person listed them.
        within_host: between two devices of one host, unless `links` says otherwise.
        between_hosts: between devices of two hosts, unless `links` says otherwise; None where
            hosts do not reach each other.
        links: (name, name) of two devices or of two hosts -> what lies between, both ways.
        price_per_hour: type -> money for one device and hour; types without a price are free.
        price_per_kilowatt_hour: of electric energy.
        currency: of the prices.
    """

    devices: tuple[PlannedDevice, ...]
    within_host: Link
    between_hosts: Link | None = None
    links: Mapping[tuple[str, str], Link] = field(default_factory=dict)
    price_per_hour: Mapping[str, float] = field(default_factory=dict)
    price_per_kilowatt_hour: float = 0.0
    currency: str = "USD"

    def device(self, name: str) -> PlannedDevice:
        """Find a device.

        Raises:
            InputError: there is none of this name; lists some that are there.
        """
        for device in self.devices:
            if device.name == name:
                return device
        known = ", ".join(device.name for device in self.devices[:8]) or "none"
        raise InputError(
            f"device {name!r} is not in the inventory of {len(self.devices)}: {known}; "
            "name one of these, or plan again for the devices there are"
        )

    def link(self, source: PlannedDevice, target: PlannedDevice) -> Link | None:
        """What lies between two devices, None where they do not reach each other.

        A link named for the devices wins over one named for their hosts.
        """
        for one, other in ((source.name, target.name), (source.host, target.host)):
            found = self.links.get((one, other)) or self.links.get((other, one))
            if found is not None:
                return found
        return self.within_host if source.host == target.host else self.between_hosts
