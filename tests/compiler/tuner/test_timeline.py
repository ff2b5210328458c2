from pathlib import Path

import numpy as np
import pytest

from banyan.compiler.compile import CompileOptions, LoweredProgram, lower_for
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.tuner.timeline import Run, read_timeline
from banyan.devices.null import NullDevice
from banyan.devices.recorder import LaunchTime
from banyan.foundation.errors import InputError
from tests.compiler.tuner.test_roofline import PROFILE


def two_layers(cache: Path) -> LoweredProgram:
    builder = Builder()
    x = builder.input("x", TensorType((symbol("tokens", 1, 64), 64), DType.FLOAT32))
    w = builder.input("w", TensorType((64, 64), DType.FLOAT32), "weight")
    once = builder.add("dot", (x, w), transpose_b=True, dtype=DType.FLOAT32)
    twice = builder.add("dot", (once, w), transpose_b=True, dtype=DType.FLOAT32)
    graph = Graph("layers", (x, w), (Output("y", twice),))
    return lower_for(graph, device=NullDevice(), options=CompileOptions(cache))


RUN = Run("four tokens", {"x": np.zeros((4, 64), np.float32)}, {"tokens": 4})
LAUNCHES = (LaunchTime(1_000, 3_001_000), LaunchTime(4_001_000, 5_001_000))


def test_each_launch_has_its_time_and_its_floor(tmp_path: Path) -> None:
    timeline = read_timeline(RUN, two_layers(tmp_path), LAUNCHES, PROFILE)
    assert timeline.seconds == pytest.approx(5e-3)
    first, second = timeline.kernels
    assert [first.begin, first.seconds] == pytest.approx([0.0, 3e-3])
    assert [second.begin, second.seconds] == pytest.approx([4e-3, 1e-3])
    assert first.work.operations == 2 * 4 * 64 * 64
    assert first.roofline_share == first.floor.seconds / first.seconds


def test_launches_of_one_kernel_are_added_up(tmp_path: Path) -> None:
    (group,) = read_timeline(RUN, two_layers(tmp_path), LAUNCHES, PROFILE).groups()
    assert group.launches == 2
    assert group.seconds == pytest.approx(4e-3)
    assert group.operations == 2 * 2 * 4 * 64 * 64


def test_weights_that_fit_into_the_cache_are_not_read_from_memory(tmp_path: Path) -> None:
    program = two_layers(tmp_path)
    cold = read_timeline(RUN, program, LAUNCHES, PROFILE, cache_bytes=1000)
    warm = read_timeline(RUN, program, LAUNCHES, PROFILE, cache_bytes=10**6)
    assert warm.kernels[0].floor.memory_seconds < cold.kernels[0].floor.memory_seconds


def test_times_of_another_program_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one run has 2 launches, 1 were noted"):
        read_timeline(RUN, two_layers(tmp_path), LAUNCHES[:1], PROFILE)
