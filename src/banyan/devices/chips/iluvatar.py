"""Iluvatar GPUs, through ixsmi, which speaks as nvidia-smi does."""

from banyan.devices.chip import ChipSpec
from banyan.devices.probing.csv_query import CsvQuery
from banyan.devices.probing.vendor import Reader, Vendor

CHIP = ChipSpec(
    name="iluvatar",
    vendor="Iluvatar",
    pci_vendor_ids=("1e3e",),
    visible_devices_variable="CUDA_VISIBLE_DEVICES",
    torch_device="cuda",
    collective_library="ixccl",
    dtypes=("float32", "float16", "bfloat16"),
    status="described",
)

QUERY = CsvQuery(
    tool="ixsmi",
    columns={
        "index": "index",
        "model": "name",
        "memory": "memory.total",
        "memory_used": "memory.used",
        "utilisation": "utilization.gpu",
        "temperature": "temperature.gpu",
    },
    style=("--format=csv,noheader",),
)

VENDOR = Vendor(CHIP, "GPU", (Reader(QUERY.tool, QUERY.read),), "the Iluvatar CoreX driver")
