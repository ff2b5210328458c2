import numpy as np
import pytest

from banyan.devices.device import Program
from banyan.devices.null import NullDevice
from banyan.devices.profile import DeviceProfile
from banyan.devices.simulated import SimulatedDevice, SimulatedProgram, Work, predict_seconds
from banyan.foundation.errors import EnvironmentProblem, InputError

PROFILE = DeviceProfile(
    fingerprint="f",
    model="Example 1",
    measured_on="2026-01-01",
    num_threads=2,
    read_bytes_per_second=100.0,
    read_bytes_per_second_one_thread=60.0,
    copy_bytes_per_second=10.0,
    operations_per_second=(("bfloat16", 1000.0),),
    operations_per_second_one_thread=(("bfloat16", 500.0),),
    launch_seconds=0.5,
)
PROGRAM = Program("p", "cpp", None, "banyan_run", 1, 1, 0)


def test_the_slower_of_memory_and_arithmetic_decides() -> None:
    assert predict_seconds(PROFILE, Work(200, 1000.0, "bfloat16")) == 0.5 + 2.0
    assert predict_seconds(PROFILE, Work(200, 9000.0, "bfloat16")) == 0.5 + 9.0
    assert predict_seconds(PROFILE, Work(100)) == 0.5 + 1.0


def test_a_dtype_that_was_never_measured_is_named() -> None:
    with pytest.raises(InputError, match=r"no peak for int8; it has bfloat16"):
        predict_seconds(PROFILE, Work(1, 1.0, "int8"))


def test_the_clock_shows_copies_and_launches() -> None:
    device = SimulatedDevice("chip:0", PROFILE, memory_bytes=1000)
    buffer = device.adopt(np.zeros(20, dtype=np.uint8))
    assert device.seconds == 2.0
    device.launch(device.load(PROGRAM), [buffer], [1])
    assert device.seconds == pytest.approx(2.0 + 0.5 + 0.2)
    device.copy_out(buffer, np.zeros(10, dtype=np.uint8))
    device.synchronize()
    device.close()
    assert device.seconds == pytest.approx(3.7)
    assert device.name == "chip:0"


def test_a_program_may_tell_its_work_from_the_symbols() -> None:
    device = SimulatedDevice("chip:0", PROFILE, memory_bytes=1000)
    loaded = SimulatedProgram(PROGRAM, lambda symbols: Work(0, 1000.0 * symbols[0], "bfloat16"))
    device.launch(loaded, [device.allocate(1)], [3])
    assert device.seconds == 3.5


def test_a_program_that_another_device_loaded_still_moves_its_bytes() -> None:
    device = SimulatedDevice("chip:0", PROFILE, memory_bytes=1000)
    device.launch(NullDevice().load(PROGRAM), [device.allocate(100)], [3])
    assert device.seconds == 1.5


def test_memory_ends_where_the_chip_ends() -> None:
    device = SimulatedDevice("chip:0", PROFILE, memory_bytes=10)
    device.allocate(8)
    with pytest.raises(EnvironmentProblem, match="chip:0 has 2 bytes free, 3 were asked for"):
        device.allocate(3)
