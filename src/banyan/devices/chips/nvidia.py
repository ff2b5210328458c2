"""NVIDIA GPUs, through nvidia-smi. `torch_device` runs programs on what is found here."""

from banyan.devices.chip import ChipSpec
from banyan.devices.probing.csv_query import CsvQuery
from banyan.devices.probing.vendor import Reader, Vendor

CUDA_CHIP = ChipSpec(
    name="cuda",
    vendor="NVIDIA",
    pci_vendor_ids=("10de",),
    visible_devices_variable="CUDA_VISIBLE_DEVICES",
    torch_device="cuda",
    collective_library="nccl",
    dtypes=("float32", "float16", "bfloat16"),
    status="emulated",
    target="triton",
)

QUERY = CsvQuery(
    tool="nvidia-smi",
    columns={
        "index": "index",
        "model": "name",
        "uuid": "uuid",
        "bus": "pci.bus_id",
        "memory": "memory.total",
        "memory_used": "memory.used",
        "utilisation": "utilization.gpu",
        "temperature": "temperature.gpu",
        "power": "power.draw",
        "power_limit": "power.limit",
        "feature": "compute_cap",
        "driver": "driver_version",
    },
    feature="compute_",
)

VENDOR = Vendor(CUDA_CHIP, "GPU", (Reader(QUERY.tool, QUERY.read),), "the NVIDIA driver")
