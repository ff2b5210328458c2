from pathlib import Path

from banyan.devices.chip import DeviceFacts, DeviceUsage, No, Yes
from banyan.devices.chips.nvidia import VENDOR
from tests.devices.chips.machines import MEBIBYTE, look, machine, sample

H200 = ("0000:18:00.0", "10de", "2335", "030200")


def test_a_gpu_is_described_by_the_drivers_command(tmp_path: Path) -> None:
    root = machine(tmp_path, H200)
    answer, facts, usage = look(VENDOR, root, {"nvidia-smi": sample("nvidia_smi.csv")})
    assert answer == Yes("1 NVIDIA GPU(s) listed by nvidia-smi")
    uuid = "GPU-1ac807aa-cbcd-5579-8591-d59d436d6eca"
    assert facts == (
        DeviceFacts(
            uuid=uuid,
            name="cuda:0",
            model="NVIDIA H200",
            memory_bytes=143771 * MEBIBYTE,
            cores=1,
            features=("compute_9.0",),
            driver="570.124.06",
            bus="0000:18:00.0",
            power_limit_watts=700.0,
        ),
    )
    assert usage == (DeviceUsage(uuid, 512 * MEBIBYTE, 0.25, 41.0, 76.5),)


def test_fields_that_the_driver_does_not_know_are_none(tmp_path: Path) -> None:
    line = "0, X, GPU-1, 0:1:0.0, [N/A], [N/A], [N/A], [N/A], [Not Supported], [N/A], 9.0, 570\n"
    _, facts, usage = look(VENDOR, machine(tmp_path, H200), {"nvidia-smi": line})
    assert (facts[0].memory_bytes, facts[0].bus) == (0, None)
    assert usage == (DeviceUsage("GPU-1", 0, None, None, None),)


def test_a_warning_between_the_lines_is_no_gpu(tmp_path: Path) -> None:
    said = f"WARNING: infoROM is corrupted at gpu 0000:18:00.0\n{sample('nvidia_smi.csv')}"
    answer, facts, _ = look(VENDOR, machine(tmp_path, H200), {"nvidia-smi": said})
    assert isinstance(answer, Yes)
    assert len(facts) == 1


def test_a_driver_that_answers_nonsense_is_a_reasoned_no(tmp_path: Path) -> None:
    answer, facts, _ = look(
        VENDOR, machine(tmp_path, H200), {"nvidia-smi": "No devices were found\n"}
    )
    assert isinstance(answer, No)
    assert "1 fields where 12 were asked for: 'No devices were found'" in answer.reason
    assert facts == ()


def test_the_sound_and_the_network_of_a_card_are_no_gpus(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        ("0000:01:00.1", "10de", "22bd", "040300"),
        ("0000:02:00.0", "10de", "a2dc", "020000"),
    )
    answer, _, _ = look(VENDOR, root, {"nvidia-smi": sample("nvidia_smi.csv")})
    assert answer == No("no NVIDIA GPU in this machine's PCI list")


def test_a_gpu_that_the_tool_does_not_list_is_counted(tmp_path: Path) -> None:
    root = machine(tmp_path, H200, ("0000:2a:00.0", "10de", "2335", "030200"))
    answer, _, _ = look(VENDOR, root, {"nvidia-smi": sample("nvidia_smi.csv")})
    assert answer == Yes("1 NVIDIA GPU(s) listed by nvidia-smi, 2 on the PCI bus")
