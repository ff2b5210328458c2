"""What the processor of this machine is: read from the kernel's files, never guessed.

Owns the facts of the "cpu" device. Reads /proc and /sys below a root that tests replace; the
one thing it changes is the permission to use AMX tiles.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

from banyan.devices.chip import (
    Cache,
    ChipSpec,
    DeviceFacts,
    DeviceUsage,
    MemoryNode,
    No,
    Topology,
    Yes,
)
from banyan.devices.instruction_sets import request_tile_permission

CPU_CHIP = ChipSpec(
    name="cpu",
    vendor="any",
    pci_vendor_ids=(),
    visible_devices_variable=None,
    torch_device="cpu",
    collective_library=None,
    dtypes=("float32", "bfloat16"),
    status="verified",
    target="cpp",
)

# Flags that decide which micro-kernel runs; named as the Linux kernel names them.
_INTERESTING_FLAGS = frozenset(
    (
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512_bf16",
        "avx512_vnni",
        "avx512_fp16",
        "avx_vnni",
        "amx_tile",
        "amx_bf16",
        "amx_int8",
        "amx_fp16",
        "asimd",
        "asimddp",
        "i8mm",
        "bf16",
        "sve",
        "sve2",
    )
)


@final
class CpuProbe:
    """Looks at the processor through the kernel's files under `root`.

    `permit_tiles` asks the kernel to let this process use AMX tiles; where the answer is no, the
    AMX features are not listed, since a program that used them would be killed.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        allowed_cores: Sequence[int] | None = None,
        permit_tiles: Callable[[], bool] = request_tile_permission,
    ) -> None:
        self._root = root
        self._allowed_cores = allowed_cores
        self._permit_tiles = permit_tiles

    @property
    def chip(self) -> ChipSpec:
        """The processor of this machine."""
        return CPU_CHIP

    def available(self) -> Yes | No:
        """Every machine has a processor; say which."""
        return Yes(f"this machine's processor: {self._model()}, {len(self._cores())} cores")

    def inventory(self) -> tuple[DeviceFacts, ...]:
        """All usable cores together are one device."""
        return (
            DeviceFacts(
                uuid=self._uuid(),
                name="cpu",
                model=self._model(),
                memory_bytes=self._memory_limit_bytes(),
                cores=len(self._cores()),
                features=self._features(),
            ),
        )

    def usage(self) -> tuple[DeviceUsage, ...]:
        """Memory that is taken, and the load of the last minute per core."""
        memory = self._memory_table()
        total = memory.get("MemTotal", 0)
        load = _first_number(self._read("proc/loadavg"))
        return (
            DeviceUsage(
                uuid=self._uuid(),
                memory_used_bytes=total - memory.get("MemAvailable", total),
                utilisation=None if load is None else min(1.0, load / max(1, len(self._cores()))),
            ),
        )

    def topology(self) -> Topology:
        """Sockets, caches and NUMA nodes as the kernel lists them."""
        cores = self._allowed()
        sockets = {self._read(f"{_core(core)}/topology/physical_package_id") for core in cores}
        return Topology(
            sockets=max(1, len(sockets)), caches=self._caches(), memory_nodes=self._memory_nodes()
        )

    def _allowed(self) -> tuple[int, ...]:
        if self._allowed_cores is not None:
            return tuple(self._allowed_cores)
        return tuple(sorted(os.sched_getaffinity(0)))

    def _cores(self) -> tuple[int, ...]:
        """One logical core per physical core that this process may use, under its time quota.

        Two hardware threads of one core share its vector units, so the second adds nothing to
        matrix work.
        """
        groups: dict[str, int] = {}
        for core in self._allowed():
            siblings = self._read(f"{_core(core)}/topology/thread_siblings_list") or str(core)
            groups.setdefault(siblings, core)
        cores = tuple(sorted(groups.values()))
        quota = self._core_quota()
        return cores if quota is None else cores[: max(1, quota)]

    def _core_quota(self) -> int | None:
        """Whole cores of the control group's time quota; None when there is no quota."""
        quotas = []
        for text in self._control_group_files("cpu.max", controller=None):
            quota, _, period = text.partition(" ")
            if quota.isdigit() and period.isdigit() and int(period) > 0:
                quotas.append(int(quota) // int(period))
        for text in self._control_group_files("cpu.cfs_quota_us", controller="cpu"):
            if text.isdigit():
                quotas.append(int(text) // 100_000)
        return min(quotas, default=None)

    def _memory_limit_bytes(self) -> int:
        limits = [self._memory_table().get("MemTotal", 0)]
        for text in (
            *self._control_group_files("memory.max", controller=None),
            *self._control_group_files("memory.limit_in_bytes", controller="memory"),
        ):
            if text.isdigit():
                limits.append(int(text))
        return min(limits)

    def _control_group_files(self, name: str, *, controller: str | None) -> tuple[str, ...]:
        """Read a file of this process's control group and of every group around it.

        `controller` is None for version 2 of control groups, else the version 1 controller.
        """
        found = []
        for line in self._read("proc/self/cgroup").splitlines():
            _, controllers, path = [*line.split(":", 2), "", ""][:3]
            if (controller or "") not in controllers.split(","):
                continue
            folder = Path("sys/fs/cgroup") / (controller or "")
            group = Path(path.lstrip("/"))
            for part in (group, *group.parents):
                if text := self._read(str(folder / part / name)):
                    found.append(text)
        return tuple(found)

    def _memory_table(self) -> dict[str, int]:
        """/proc/meminfo in bytes."""
        table = {}
        for line in self._read("proc/meminfo").splitlines():
            key, _, rest = line.partition(":")
            if (kilobytes := _first_number(rest)) is not None:
                table[key] = int(kilobytes) * 1024
        return table

    def _processor_field(self, *names: str) -> str:
        for line in self._read("proc/cpuinfo").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in names:
                return value.strip()
        return ""

    def _model(self) -> str:
        return self._processor_field("model name", "CPU part") or "unknown processor"

    def _features(self) -> tuple[str, ...]:
        flags = self._processor_field("flags", "Features").split()
        known = _INTERESTING_FLAGS.intersection(flags)
        if "amx_tile" in known and not self._permit_tiles():
            known = frozenset(flag for flag in known if not flag.startswith("amx_"))
        return tuple(sorted(known))

    def _uuid(self) -> str:
        """An identity made from the machine's own; where there is none, from model and cores.

        The machine's identity itself is meant to stay on the machine, so only a digest leaves.
        """
        machine = self._read("etc/machine-id") or f"{self._model()}-{len(self._allowed())}"
        return f"cpu-{hashlib.sha256(f'banyan {machine}'.encode()).hexdigest()[:16]}"

    def _caches(self) -> tuple[Cache, ...]:
        found: set[Cache] = set()
        for core in self._allowed():
            folder = self._root / _core(core) / "cache"
            for index in sorted(folder.glob("index*")) if folder.is_dir() else ():
                name = str(index.relative_to(self._root))
                level = _first_number(self._read(f"{name}/level"))
                if level is None:
                    continue
                found.add(
                    Cache(
                        level=int(level),
                        kind=self._read(f"{name}/type").lower(),
                        num_bytes=parse_size(self._read(f"{name}/size")),
                        shared_by=parse_core_list(self._read(f"{name}/shared_cpu_list")),
                    )
                )
        return tuple(sorted(found, key=lambda cache: (cache.level, cache.kind, cache.shared_by)))

    def _memory_nodes(self) -> tuple[MemoryNode, ...]:
        folder = self._root / "sys/devices/system/node"
        nodes = []
        for node in folder.glob("node[0-9]*") if folder.is_dir() else ():
            name = str(node.relative_to(self._root))
            total = self._read(f"{name}/meminfo").partition("MemTotal:")[2]
            nodes.append(
                MemoryNode(
                    index=int(node.name.removeprefix("node")),
                    cores=parse_core_list(self._read(f"{name}/cpulist")),
                    memory_bytes=int(_first_number(total) or 0) * 1024,
                )
            )
        return tuple(sorted(nodes, key=lambda node: node.index))

    def _read(self, path: str) -> str:
        """A kernel file's text; empty where this kernel or container does not show it."""
        try:
            return (self._root / path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""


def parse_core_list(text: str) -> tuple[int, ...]:
    """Read the kernel's "0-2,7" as (0, 1, 2, 7); the empty text is no core."""
    cores: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first:
            cores.extend(range(int(first), int(last or first) + 1))
    return tuple(cores)


def parse_size(text: str) -> int:
    """Read the kernel's "48K" or "32M" as bytes; the empty text is 0."""
    units = {"K": 1024, "M": 1024**2, "G": 1024**3}
    if text and text[-1] in units:
        return int(text[:-1]) * units[text[-1]]
    return int(text or 0)


def _core(core: int) -> str:
    return f"sys/devices/system/cpu/cpu{core}"


def _first_number(text: str) -> float | None:
    try:
        return float(text.split(maxsplit=1)[0])
    except (IndexError, ValueError):
        return None
