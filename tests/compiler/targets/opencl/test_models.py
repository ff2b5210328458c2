"""Other people's models on an OpenCL device: nothing wrong, nothing left to PyTorch."""

from pathlib import Path

import pytest
import torch

from banyan.devices import opencl_limits
from banyan.devices.opencl import OpenClDevice
from tests.compiler.zoo.changed_models import CHANGED
from tests.compiler.zoo.comparing import TOLERANCES, compare
from tests.compiler.zoo.models import MODELS

BY_NAME = {model.name: model for model in (*MODELS, *CHANGED)}


@pytest.mark.wide
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", list(BY_NAME))
def test_every_model_agrees_with_pytorch_at_every_length(
    name: str,
    dtype: torch.dtype,
    lanes: int,
    single: OpenClDevice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BANYAN_CACHE", str(tmp_path))
    monkeypatch.setattr(opencl_limits, "LANES_OF_CPU", lanes)
    found = compare(BY_NAME[name], "opencl", dtype, single.name)
    assert found.report.externs == ()
    assert max(found.errors.values()) <= TOLERANCES[dtype], found.errors
