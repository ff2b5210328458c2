"""NVIDIA GPUs: found by their PCI identity, described by the driver's own command.

Never imports torch: looking for a chip must not cost a second or a gigabyte. `torch_device` runs
programs on what is found here.
"""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

from banyan.devices.chip import ChipSpec, DeviceFacts, DeviceUsage, No, Topology, Yes

CUDA_CHIP = ChipSpec(
    name="cuda",
    vendor="NVIDIA",
    pci_vendor_ids=("10de",),
    visible_devices_variable="CUDA_VISIBLE_DEVICES",
    torch_device="cuda",
    collective_library="nccl",
    dtypes=("float32", "float16", "bfloat16"),
    status="emulated",
)

_QUERY = (
    "nvidia-smi",
    "--query-gpu=index,name,uuid,memory.total,memory.used,utilization.gpu,temperature.gpu,"
    "power.draw,compute_cap,driver_version",
    "--format=csv,noheader,nounits",
)
_NUM_FIELDS = 10
_COMMAND_SECONDS = 20

RunCommand = Callable[[Sequence[str]], str]
"""Runs a command and gives what it printed; raises OSError or `subprocess.SubprocessError`."""


def run_command(command: Sequence[str]) -> str:
    """Run a command for at most twenty seconds and give what it printed."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=True
    ).stdout


@final
class CudaProbe:
    """Looks for NVIDIA GPUs in the PCI list under `root`, then asks the driver's command."""

    def __init__(self, root: Path = Path("/"), run: RunCommand = run_command) -> None:
        self._root = root
        self._run = run

    @property
    def chip(self) -> ChipSpec:
        """NVIDIA GPUs."""
        return CUDA_CHIP

    def available(self) -> Yes | No:
        """Say whether a GPU is here and its driver answers."""
        on_bus = find_accelerators(self._root, CUDA_CHIP.pci_vendor_ids)
        if not on_bus:
            return No("no NVIDIA display or compute device in this machine's PCI list")
        try:
            rows = self._rows()
        except FileNotFoundError:
            return No(
                f"{len(on_bus)} NVIDIA device(s) on the PCI bus, but the command nvidia-smi is "
                "missing; install the NVIDIA driver"
            )
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            return No(
                f"{len(on_bus)} NVIDIA device(s) on the PCI bus, but nvidia-smi failed "
                f"({_first_line(error)}); check the NVIDIA driver"
            )
        if not rows:
            return No("nvidia-smi lists no GPU; check that the driver shows one to this container")
        return Yes(f"{len(rows)} NVIDIA GPU(s) listed by nvidia-smi")

    def inventory(self) -> tuple[DeviceFacts, ...]:
        """List the GPUs that the driver shows; empty when `available` says no."""
        return tuple(
            DeviceFacts(
                uuid=row["uuid"],
                name=f"cuda:{row['index']}",
                model=row["name"],
                memory_bytes=_mebibytes(row["memory.total"]),
                cores=1,
                features=(f"compute_{row['compute_cap']}",),
                driver=row["driver_version"],
            )
            for row in self._rows_or_none()
        )

    def usage(self) -> tuple[DeviceUsage, ...]:
        """Read memory, load, temperature and power of each GPU."""
        return tuple(
            DeviceUsage(
                uuid=row["uuid"],
                memory_used_bytes=_mebibytes(row["memory.used"]),
                utilisation=_scaled(row["utilization.gpu"], 0.01),
                temperature_celsius=_scaled(row["temperature.gpu"], 1.0),
                power_watts=_scaled(row["power.draw"], 1.0),
            )
            for row in self._rows_or_none()
        )

    def topology(self) -> Topology:
        """Links between GPUs are not read yet: no caches and no memory nodes are listed."""
        return Topology(sockets=0, caches=(), memory_nodes=())

    def _rows_or_none(self) -> list[dict[str, str]]:
        return self._rows() if isinstance(self.available(), Yes) else []

    def _rows(self) -> list[dict[str, str]]:
        names = _QUERY[1].removeprefix("--query-gpu=").split(",")
        rows = []
        for line in self._run(_QUERY).splitlines():
            values = [value.strip() for value in line.split(",")]
            if len(values) != _NUM_FIELDS:
                raise ValueError(f"{len(values)} fields where {_NUM_FIELDS} were asked for")
            rows.append(dict(zip(names, values, strict=True)))
        return rows


def find_accelerators(root: Path, vendor_ids: Sequence[str]) -> tuple[str, ...]:
    """List the PCI addresses of display and compute devices of these vendors.

    The class keeps out a vendor's other devices, such as its network cards and bridges: 03 is
    a display controller (with 3D controllers), 12 a processing accelerator.
    """
    folder = root / "sys/bus/pci/devices"
    found = []
    for device in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            vendor = (device / "vendor").read_text(encoding="ascii").strip()
            kind = (device / "class").read_text(encoding="ascii").strip()
        except OSError:
            continue
        if vendor.removeprefix("0x") in vendor_ids and kind.startswith(("0x03", "0x12")):
            found.append(device.name)
    return tuple(found)


def _mebibytes(text: str) -> int:
    return int(float(text) * 1024 * 1024) if _is_number(text) else 0


def _scaled(text: str, factor: float) -> float | None:
    """A field of nvidia-smi; "[N/A]" and the like are None."""
    return float(text) * factor if _is_number(text) else None


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
