"""T-Head PPUs, through ppu-smi, which speaks as nvidia-smi does."""

from banyan.devices.chip import ChipSpec
from banyan.devices.probing.csv_query import CsvQuery
from banyan.devices.probing.vendor import Reader, Vendor

CHIP = ChipSpec(
    name="t_head",
    vendor="T-Head",
    pci_vendor_ids=("1ded",),
    visible_devices_variable="CUDA_VISIBLE_DEVICES",
    torch_device="cuda",
    collective_library="nccl",
    dtypes=("float32", "float16", "bfloat16"),
    status="described",
)

QUERY = CsvQuery(
    tool="ppu-smi",
    columns={
        "index": "index",
        "uuid": "uuid",
        "model": "name",
        "memory": "memory.total",
        "memory_used": "memory.used",
        "utilisation": "utilization.gpu",
        "temperature": "temperature.gpu",
        "power": "power.draw",
        "driver": "driver_version",
    },
    style=("--format=csv,noheader",),
)

VENDOR = Vendor(CHIP, "PPU", (Reader(QUERY.tool, QUERY.read),), "the PPU SDK")
