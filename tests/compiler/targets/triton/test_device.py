"""The device that goes through PyTorch, on Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from banyan.devices.device import Program
from banyan.devices.torch_device import INTERPRETER, TorchDevice
from banyan.foundation.errors import CompilationFailed, EnvironmentProblem, InputError


def program(path: Path, entry: str = "banyan_run_0") -> Program:
    return Program("p", "triton", path, entry, 1, 0, 0)


def test_bytes_come_back_from_where_they_were_put() -> None:
    device = TorchDevice(INTERPRETER)
    buffer = device.allocate(16)
    device.copy_in(np.array([1, 2], np.int32), buffer, 8)
    found = np.zeros(3, np.int32)
    device.copy_out(buffer, found, 4)
    assert found.tolist() == [0, 1, 2]
    assert not buffer.is_on_host
    with pytest.raises(InputError, match="use copy_out"):
        buffer.array(np.dtype(np.int32), (4,))


def test_bytes_past_the_end_and_programs_of_others_are_refused() -> None:
    device = TorchDevice(INTERPRETER)
    buffer, bytes_ = device.allocate(64), np.zeros(33, np.uint8)
    with pytest.raises(InputError, match="33 bytes at 32 are beyond the 64 of the buffer"):
        device.copy_in(bytes_, buffer, 32)
    with pytest.raises(InputError, match="33 bytes at 32 are beyond the 64 of the buffer"):
        device.copy_out(buffer, bytes_, 32)
    with pytest.raises(InputError, match="cannot allocate -1 bytes"):
        device.allocate(-1)
    with pytest.raises(CompilationFailed, match="has no module"):
        device.load(Program("p", "cpp", None, "banyan_run", 1, 0, 0))


def test_a_module_that_cannot_be_read_or_has_no_entry_is_named(tmp_path: Path) -> None:
    device = TorchDevice(INTERPRETER)
    broken = tmp_path / "broken.py"
    broken.write_text("def banyan_run_0(:")
    with pytest.raises(CompilationFailed, match="cannot be imported"):
        device.load(program(broken))
    empty = tmp_path / "empty.py"
    empty.write_text("DATA = ()")
    with pytest.raises(CompilationFailed, match="no function 'banyan_run_0'"):
        device.load(program(empty))


def test_a_chip_that_is_not_here_is_refused() -> None:
    with pytest.raises(EnvironmentProblem, match="'cuda:63' cannot be used"):
        TorchDevice("cuda:63")


def test_interpreting_too_late_says_what_to_do() -> None:
    text = (
        "import triton.language\n"
        "from banyan.devices.torch_device import TorchDevice\n"
        "from banyan.foundation.errors import EnvironmentProblem\n"
        "try:\n    TorchDevice('triton')\n"
        "except EnvironmentProblem as error:\n    raise SystemExit(str(error))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, env=environment
    )
    assert "set TRITON_INTERPRET=1 before Python starts" in done.stderr
