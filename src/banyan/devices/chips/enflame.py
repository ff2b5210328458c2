"""Enflame GCUs, through the sections that efsmi prints."""

from banyan.devices.chip import ChipSpec
from banyan.devices.probing import quantities
from banyan.devices.probing.bus import read_address
from banyan.devices.probing.command import RunCommand
from banyan.devices.probing.record import ChipRecord
from banyan.devices.probing.tables import Section, sections, version_after
from banyan.devices.probing.vendor import Reader, Vendor

CHIP = ChipSpec(
    name="enflame",
    vendor="Enflame",
    pci_vendor_ids=("1e36",),
    visible_devices_variable=None,  # none is documented
    torch_device="gcu",
    collective_library="eccl",
    dtypes=("float32", "float16", "bfloat16"),
    status="described",
)


def read(run: RunCommand) -> tuple[ChipRecord, ...]:
    """Ask efsmi for everything, as text: JSON came late and differs between drivers.

    Raises:
        ValueError: there are no devices in the output, or one has no memory.
    """
    text = run(("efsmi", "-q"))
    found = sections(text, r"DEV ID (\d+)")
    if not found:
        raise ValueError("there is no line 'DEV ID'")
    driver = version_after(text, "Driver Ver")
    return tuple(_record(section, driver) for section in found)


def _record(section: Section, driver: str | None) -> ChipRecord:
    place = [section.first(name) for name in ("Domain", "Bus", "Dev", "Func")]
    total = quantities.read_bytes(section.first("Total Size", "Mem Size"))
    if total is None:
        raise ValueError(f"device {section.head[1]} has neither 'Total Size' nor 'Mem Size'")
    return ChipRecord(
        index=quantities.read_index(section.head[1]),
        model=section.first("Dev Name") or "GCU",
        uuid=section.first("Dev UUID", "Dev SN"),
        bus=read_address("{}:{}:{}.{}".format(*place)),
        memory_bytes=total,
        memory_used_bytes=quantities.read_bytes(section.first("Used Size", "Mem Usage")),
        utilisation=quantities.read_share(section.first("GCU Usage")),
        temperature_celsius=quantities.read_celsius(section.first("GCU Temp")),
        power_watts=quantities.read_watts(section.first("Cur Power")),
        power_limit_watts=quantities.read_watts(section.first("Power Capa")),
        driver=driver,
    )


VENDOR = Vendor(CHIP, "GCU", (Reader("efsmi", read),), "the Enflame driver (TopsRider)")
