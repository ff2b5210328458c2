"""What holds for every vendor, whatever its tool prints or does."""

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banyan.devices import chips
from banyan.devices.chip import DeviceFacts, No, Yes
from banyan.devices.chips import (
    amd,
    ascend,
    cambricon,
    enflame,
    gaudi,
    hygon,
    iluvatar,
    intel,
    kunlunxin,
    metax,
    moore_threads,
    nvidia,
    t_head,
)
from banyan.devices.discovery import known_probes
from banyan.devices.probing.registry import vendor_probes
from banyan.devices.probing.vendor import Vendor, VendorProbe
from tests.devices.chips.machines import Tools, hung, look, machine, sample

# Vendor, a device of it on the bus, and what its tools say.
CASES: dict[str, tuple[Vendor, tuple[str, str, str, str], dict[str, str]]] = {
    "nvidia": (
        nvidia.VENDOR,
        ("0000:18:00.0", "10de", "2335", "030200"),
        {"nvidia-smi": sample("nvidia_smi.csv")},
    ),
    "amd": (
        amd.VENDOR,
        ("0000:03:00.0", "1002", "747e", "030000"),
        {"rocm-smi": sample("rocm_smi.json")},
    ),
    "amd-smi": (
        replace(amd.VENDOR, readers=amd.VENDOR.readers[1:]),
        ("0000:05:00.0", "1002", "74a1", "120000"),
        {
            "amd-smi static": sample("amd_smi_static.json"),
            "amd-smi metric": sample("amd_smi_metric.json"),
        },
    ),
    "hygon": (
        hygon.VENDOR,
        ("0000:07:00.0", "1d94", "6210", "0b4000"),
        {"hy-smi": sample("hy_smi.json")},
    ),
    "ascend": (
        ascend.VENDOR,
        ("0000:c1:00.0", "19e5", "d802", "120000"),
        {
            "npu-smi info": sample("npu_smi_910b.txt"),
            "npu-smi info -m": sample("npu_smi_910b_map.txt"),
        },
    ),
    "cambricon": (
        cambricon.VENDOR,
        ("0000:65:00.0", "cabc", "0370", "120000"),
        {"cnmon info": sample("cnmon_info.json"), "cnmon": sample("cnmon.txt")},
    ),
    "iluvatar": (
        iluvatar.VENDOR,
        ("0000:0c:00.0", "1e3e", "0003", "120000"),
        {"ixsmi": sample("ixsmi.csv")},
    ),
    "enflame": (
        enflame.VENDOR,
        ("0000:17:00.0", "1e36", "c035", "120000"),
        {"efsmi": sample("efsmi.txt")},
    ),
    "moore_threads": (
        moore_threads.VENDOR,
        ("0000:04:00.0", "1ed5", "0222", "030000"),
        {"mthreads-gmi": sample("mthreads_gmi.txt")},
    ),
    "metax": (
        metax.VENDOR,
        ("0000:01:00.0", "9999", "4001", "038000"),
        {"mx-smi": sample("mx_smi.txt")},
    ),
    "kunlunxin": (
        kunlunxin.VENDOR,
        ("0000:03:00.0", "1d22", "3688", "120000"),
        {"xpu_smi": sample("xpu_smi_kunlun.txt")},
    ),
    "t_head": (
        t_head.VENDOR,
        ("0000:08:00.0", "1ded", "6001", "030200"),
        {"ppu-smi": sample("ppu_smi.csv")},
    ),
    "intel": (
        intel.VENDOR,
        ("0000:4d:00.0", "8086", "56c0", "038000"),
        {
            "xpu-smi discovery -j": sample("xpu_smi_discovery.json"),
            "xpu-smi discovery -d 0 -j": sample("xpu_smi_device.json"),
            "xpu-smi stats -d 0 -j": sample("xpu_smi_stats.json"),
        },
    ),
    "gaudi": (
        gaudi.VENDOR,
        ("0000:4d:00.0", "1da3", "1060", "120000"),
        {"hl-smi": sample("hl_smi.csv")},
    ),
}
every_vendor = pytest.mark.parametrize("name", CASES)

TRANSLATED = (
    "错误: 无法连接驱动, 请检查驱动是否安装\n",
    "Fehler: Kein Gerät gefunden; 3,5 GiB belegt\n",
    "メモリ | 使用率 | 温度 | 電力\n",
    "\x00\x1b[31m\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}",
    "{}",
    "[]",
    "null",
    '{"card0": 7}',
    "[" * 100_000,
)


def everything_fails(vendor: Vendor, error: Exception) -> dict[str, str | Exception]:
    """Every tool of a vendor fails in one way."""
    return {reader.tool: error for reader in vendor.readers}


def test_every_vendor_of_the_folder_is_tried_here() -> None:
    found = {probe.chip.name for probe in vendor_probes(chips)}
    assert found == {vendor.chip.name for vendor, _, _ in CASES.values()}


@every_vendor
def test_the_sample_is_read(name: str, tmp_path: Path) -> None:
    vendor, device, said = CASES[name]
    answer, facts, usage = look(vendor, machine(tmp_path, device), said)
    assert isinstance(answer, Yes)
    assert facts
    assert [fact.uuid for fact in facts] == [use.uuid for use in usage]
    assert len({fact.uuid for fact in facts}) == len({fact.name for fact in facts}) == len(facts)


@every_vendor
def test_without_the_chip_no_tool_is_run(name: str, tmp_path: Path) -> None:
    vendor, _, said = CASES[name]
    tools = Tools(said)
    probe = VendorProbe(vendor, tmp_path, tools)
    answer = probe.available()
    assert isinstance(answer, No)
    assert not answer.is_present
    assert answer.reason.startswith(f"no {vendor.chip.vendor} ")
    assert (probe.inventory(), probe.usage(), tools.asked) == ((), (), [])
    assert probe.topology().memory_nodes == ()


@every_vendor
@pytest.mark.parametrize(
    "display",
    [("1a03", "2000"), ("102b", "0538"), ("19e5", "1711"), ("1234", "1111")],
    ids=["ASPEED", "Matrox", "iBMC", "emulated"],
)
def test_the_display_chip_of_a_server_is_nobodys_accelerator(
    name: str, display: tuple[str, str], tmp_path: Path
) -> None:
    vendor, _, said = CASES[name]
    answer, _, _ = look(vendor, machine(tmp_path, ("0000:02:00.0", *display, "030000")), said)
    assert isinstance(answer, No)
    assert not answer.is_present


@every_vendor
def test_a_missing_tool_is_named_with_what_to_install(name: str, tmp_path: Path) -> None:
    vendor, device, _ = CASES[name]
    answer, facts, usage = look(vendor, machine(tmp_path, device), {})
    tools = " or ".join(reader.tool for reader in vendor.readers)
    assert answer == No(
        f"1 {vendor.chip.vendor} device(s) on the PCI bus, but the command {tools} is missing; "
        f"install {vendor.cure}",
        is_present=True,
    )
    assert (facts, usage) == ((), ())


@every_vendor
def test_a_hung_tool_is_named(name: str, tmp_path: Path) -> None:
    vendor, device, _ = CASES[name]
    tool = vendor.readers[0].tool
    answer, facts, usage = look(
        vendor, machine(tmp_path, device), everything_fails(vendor, hung(tool))
    )
    assert isinstance(answer, No)
    assert f"{tool} did not answer within 20 s and was stopped" in answer.reason
    assert (facts, usage) == ((), ())


@every_vendor
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            subprocess.CalledProcessError(9, ["x"], "\nInitialization failed: -12\nmore"),
            "failed with exit status 9 (Initialization failed: -12)",
        ),
        (
            subprocess.CalledProcessError(-11, ["x"], ""),
            "failed with exit status -11 (it printed nothing)",
        ),
        (PermissionError(13, "Permission denied"), "failed ([Errno 13] Permission denied)"),
    ],
)
def test_a_tool_that_fails_is_quoted(
    name: str, error: Exception, message: str, tmp_path: Path
) -> None:
    vendor, device, _ = CASES[name]
    answer, facts, _ = look(vendor, machine(tmp_path, device), everything_fails(vendor, error))
    assert isinstance(answer, No)
    assert f"{vendor.readers[0].tool} {message}" in answer.reason
    assert facts == ()


@every_vendor
@pytest.mark.parametrize("said", TRANSLATED, ids=range(len(TRANSLATED)))
def test_what_is_not_the_tools_format_is_a_reasoned_no(
    name: str, said: str, tmp_path: Path
) -> None:
    vendor, device, _ = CASES[name]
    answers = {reader.tool: said for reader in vendor.readers}
    answer, facts, _ = look(vendor, machine(tmp_path, device), answers)
    assert isinstance(answer, No)
    assert answer.is_present
    assert vendor.readers[0].tool in answer.reason
    assert facts == ()


@every_vendor
def test_an_answer_that_is_cut_anywhere_is_read_or_refused(name: str, tmp_path: Path) -> None:
    vendor, device, said = CASES[name]
    root = machine(tmp_path, device)
    for command, whole in said.items():
        for end in range(0, len(whole), max(1, len(whole) // 60)):
            check(*look(vendor, root, {**said, command: whole[:end]})[:2])


@every_vendor
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_answers_are_read_or_refused(
    name: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    vendor, device, said = CASES[name]
    root = tmp_path_factory.mktemp("machine")
    machine(root, device)
    command = data.draw(st.sampled_from(sorted(said)))
    whole = said[command]
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    inserted = data.draw(st.text(max_size=20) | st.sampled_from(["-1", "1e999", "NaN", "|", "{"]))
    check(*look(vendor, root, {**said, command: whole[:start] + inserted + whole[end:]})[:2])


def check(answer: Yes | No, facts: Sequence[DeviceFacts]) -> None:
    """Whatever was said, the answer is in order."""
    if isinstance(answer, No):
        assert answer.reason
        assert facts == ()
    else:
        assert facts
        assert all(0 <= fact.memory_bytes < 2**80 for fact in facts)


def test_every_file_of_a_vendor_is_short() -> None:
    folder = Path(chips.__file__).parent
    lengths = {file.name: len(file.read_text("utf-8").splitlines()) for file in folder.glob("*.py")}
    assert max(lengths.values()) <= 150, lengths


def test_every_sample_names_its_source() -> None:
    folder = Path(__file__).parent / "samples"
    listed = (folder / "README.md").read_text("utf-8")
    unnamed = [f.name for f in folder.iterdir() if f.name != "README.md" and f.name not in listed]
    assert unnamed == []


def test_every_vendor_is_asked_when_devices_are_searched() -> None:
    names = {probe.chip.name for probe in known_probes()}
    assert names >= {vendor.chip.name for vendor, _, _ in CASES.values()}
