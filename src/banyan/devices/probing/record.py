"""What a vendor's command said of one chip, in one form for all vendors."""

from dataclasses import dataclass

from banyan.devices.chip import DeviceFacts, DeviceUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipRecord:
    """One chip; None is what its tool does not tell.

    Attributes:
        index: its number among the vendor's chips, as the vendor's runtime counts.
        model: the maker's name.
        uuid: an identity that outlives a restart; empty where the tool has none.
        bus: its PCI address as the kernel writes it.
        memory_bytes: all of its own memory.
        memory_used_bytes: what is taken.
        utilisation: share of the last moments in which it computed, 0 to 1.
        temperature_celsius: of the chip.
        power_watts: drawn now.
        power_limit_watts: drawn at most.
        driver: version of the driver.
        features: compute capability and the like.
    """

    index: int
    model: str
    uuid: str = ""
    bus: str | None = None
    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    utilisation: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    driver: str | None = None
    features: tuple[str, ...] = ()

    def identity(self, chip: str) -> str:
        """Say by what facts and usage are joined; `chip` is the name of the family."""
        return self.uuid or f"{chip}-{self.bus or self.index}"

    def facts(self, chip: str) -> DeviceFacts:
        """Give what does not change; `chip` is the name of the family."""
        return DeviceFacts(
            uuid=self.identity(chip),
            name=f"{chip}:{self.index}",
            model=self.model,
            memory_bytes=self.memory_bytes or 0,
            cores=1,
            features=self.features,
            driver=self.driver,
            bus=self.bus,
            power_limit_watts=self.power_limit_watts,
        )

    def usage(self, chip: str) -> DeviceUsage:
        """Give what changes; `chip` is the name of the family."""
        return DeviceUsage(
            uuid=self.identity(chip),
            memory_used_bytes=self.memory_used_bytes or 0,
            utilisation=self.utilisation,
            temperature_celsius=self.temperature_celsius,
            power_watts=self.power_watts,
        )
