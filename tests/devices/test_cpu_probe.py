from pathlib import Path

import pytest

from banyan.devices.chip import Cache, MemoryNode, Yes
from banyan.devices.cpu_probe import CpuProbe, parse_core_list, parse_size

CPUINFO = """processor\t: 0
model name\t: Example 9000
flags\t\t: fpu sse2 avx2 fma avx512f amx_tile amx_bf16

processor\t: 1
model name\t: Example 9000
flags\t\t: fpu
"""


def write(root: Path, files: dict[str, str]) -> None:
    """Write the kernel's files of a made-up machine."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Two physical cores with two hardware threads each, one socket, one memory node."""
    write(
        tmp_path,
        {
            "proc/cpuinfo": CPUINFO,
            "proc/meminfo": "MemTotal:  1000 kB\nMemAvailable:  400 kB\nOdd line\n",
            "proc/loadavg": "1.00 0.5 0.2 1/100 4242\n",
            "etc/machine-id": "0123456789abcdef\n",
            "sys/devices/system/node/node0/cpulist": "0-3\n",
            "sys/devices/system/node/node0/meminfo": "Node 0 MemTotal:  1000 kB\n",
        },
    )
    for core, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        folder = f"sys/devices/system/cpu/cpu{core}"
        write(
            tmp_path,
            {
                f"{folder}/topology/thread_siblings_list": siblings,
                f"{folder}/topology/physical_package_id": "0",
                f"{folder}/cache/index0/level": "1",
                f"{folder}/cache/index0/type": "Data",
                f"{folder}/cache/index0/size": "48K",
                f"{folder}/cache/index0/shared_cpu_list": siblings,
            },
        )
    (tmp_path / "sys/devices/system/cpu/cpu0/cache/index9").mkdir()
    return tmp_path


def probe(root: Path, *, tiles: bool = True) -> CpuProbe:
    """A probe of the made-up machine."""
    return CpuProbe(root, allowed_cores=(0, 1, 2, 3), permit_tiles=lambda: tiles)


def test_physical_cores_count_and_hardware_threads_do_not(machine: Path) -> None:
    assert probe(machine).available() == Yes("this machine's processor: Example 9000, 2 cores")
    facts = probe(machine).inventory()[0]
    assert (facts.cores, facts.model, facts.memory_bytes) == (2, "Example 9000", 1_024_000)
    assert facts.features == ("amx_bf16", "amx_tile", "avx2", "avx512f", "fma")
    assert facts.name == "cpu"


def test_amx_is_not_listed_where_the_kernel_refuses_tiles(machine: Path) -> None:
    assert probe(machine, tiles=False).inventory()[0].features == ("avx2", "avx512f", "fma")


def test_the_machines_identity_does_not_leave_the_machine(machine: Path) -> None:
    uuid = probe(machine).inventory()[0].uuid
    assert uuid.startswith("cpu-")
    assert "0123456789abcdef" not in uuid
    (machine / "etc/machine-id").unlink()
    assert probe(machine).inventory()[0].uuid not in {uuid, "cpu-"}


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "5000\n"},
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "5000"},
        {
            "proc/self/cgroup": "9:pids:/\n4:memory:/job\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "5000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        },
    ],
    ids=["version 2, outer group", "version 2, container", "version 1"],
)
def test_a_control_groups_memory_limit_is_kept(machine: Path, files: dict[str, str]) -> None:
    write(machine, files)
    assert probe(machine).inventory()[0].memory_bytes == 5000


def test_no_limit_in_the_control_group_leaves_the_machines_memory(machine: Path) -> None:
    write(machine, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"})
    assert probe(machine).inventory()[0].memory_bytes == 1_024_000


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000"}, 2),
        ({"proc/self/cgroup": "1:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000"}, 1),
        ({"proc/self/cgroup": "1:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"}, 2),
    ],
)
def test_a_time_quota_limits_the_cores(machine: Path, files: dict[str, str], cores: int) -> None:
    write(machine, files)
    assert probe(machine).inventory()[0].cores == cores


def test_usage_is_what_the_kernel_says(machine: Path) -> None:
    usage = probe(machine).usage()[0]
    assert usage.memory_used_bytes == 600 * 1024
    assert usage.utilisation == 0.5
    (machine / "proc/loadavg").unlink()
    assert probe(machine).usage()[0].utilisation is None


def test_topology_lists_each_cache_and_node_once(machine: Path) -> None:
    topology = probe(machine).topology()
    assert topology.sockets == 1
    assert topology.caches == (
        Cache(1, "data", 48 * 1024, (0, 2)),
        Cache(1, "data", 48 * 1024, (1, 3)),
    )
    assert topology.memory_nodes == (MemoryNode(0, (0, 1, 2, 3), 1_024_000),)


def test_a_machine_that_shows_nothing_still_has_a_cpu(tmp_path: Path) -> None:
    facts = CpuProbe(tmp_path, allowed_cores=(0,)).inventory()[0]
    assert (facts.model, facts.cores, facts.features) == ("unknown processor", 1, ())
    assert CpuProbe(tmp_path, allowed_cores=(0,)).topology().memory_nodes == ()


def test_this_machine_has_a_core_and_memory() -> None:
    facts = CpuProbe().inventory()[0]
    assert facts.cores >= 1
    assert facts.memory_bytes > 0
    assert CpuProbe().chip.name == "cpu"


@pytest.mark.parametrize(
    ("text", "cores"), [("", ()), ("3", (3,)), ("0-2,7", (0, 1, 2, 7)), ("0, 2", (0, 2))]
)
def test_core_lists_are_read_as_the_kernel_writes_them(text: str, cores: tuple[int, ...]) -> None:
    assert parse_core_list(text) == cores


@pytest.mark.parametrize(
    ("text", "num_bytes"), [("", 0), ("64", 64), ("48K", 49152), ("2M", 2097152), ("1G", 1 << 30)]
)
def test_sizes_are_read_as_the_kernel_writes_them(text: str, num_bytes: int) -> None:
    assert parse_size(text) == num_bytes
