"""Intel Gaudi accelerators, through hl-smi."""

from banyan.devices.chip import ChipSpec
from banyan.devices.probing.csv_query import CsvQuery
from banyan.devices.probing.vendor import Reader, Vendor

CHIP = ChipSpec(
    name="gaudi",
    vendor="Intel Gaudi",
    pci_vendor_ids=("1da3",),
    visible_devices_variable="HABANA_VISIBLE_DEVICES",
    torch_device="hpu",
    collective_library="hccl",  # Habana's own, of the same name as Huawei's
    dtypes=("float32", "bfloat16"),
    status="described",
)

QUERY = CsvQuery(
    tool="hl-smi",
    columns={
        "index": "index",
        "uuid": "uuid",
        "model": "name",
        "driver": "driver_version",
        "memory": "memory.total",
        "memory_used": "memory.used",
        "memory_free": "memory.free",
        "power": "power.draw",
        "power_limit": "power.max",
        "temperature": "temperature.aip",
        "utilisation": "utilization.aip",
    },
    ask="-Q",
    style=("-f", "csv,noheader"),
)

VENDOR = Vendor(CHIP, "accelerator", (Reader(QUERY.tool, QUERY.read),), "the Gaudi driver")
