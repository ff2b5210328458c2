import numpy as np
import pytest

from banyan.devices.device import Program
from banyan.devices.null import NullCounts, NullDevice
from banyan.foundation.errors import InputError

PROGRAM = Program(
    name="empty",
    target="cpp",
    image=None,
    entry="banyan_run",
    num_buffers=2,
    num_symbols=1,
    scratch_bytes_per_thread=0,
)


def test_bytes_and_launches_are_counted() -> None:
    device = NullDevice()
    given = device.adopt(np.arange(4, dtype=np.float32))
    result = device.allocate(8)
    loaded = device.load(PROGRAM)
    device.launch(loaded, [given, result], [3])
    device.launch(loaded, [given, result], [4])
    device.copy_out(result, np.zeros(2, dtype=np.float32))
    device.synchronize()
    device.close()
    assert device.name == "null"
    assert device.counts == NullCounts(
        allocations=2,
        bytes_allocated=24,
        bytes_copied_in=16,
        bytes_copied_out=8,
        programs_loaded=1,
        launches=2,
        bytes_launched_with=48,
    )


def test_what_is_copied_in_comes_out() -> None:
    device = NullDevice()
    buffer = device.adopt(np.array([1, 2, 3], dtype=np.int64))
    out = np.zeros(3, dtype=np.int64)
    device.copy_out(buffer, out)
    assert out.tolist() == [1, 2, 3]


def test_a_launch_with_the_wrong_number_of_buffers_is_refused() -> None:
    device = NullDevice()
    with pytest.raises(InputError, match="'empty' takes 2 buffers, 1 were given"):
        device.launch(device.load(PROGRAM), [device.allocate(1)], [3])
    assert device.counts.launches == 0


def test_a_launch_with_the_wrong_number_of_symbols_is_refused() -> None:
    device = NullDevice()
    with pytest.raises(InputError, match="takes 1 symbols, 2 were given"):
        device.launch(device.load(PROGRAM), [device.allocate(1)] * 2, [3, 4])
