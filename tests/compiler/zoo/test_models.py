"""Other people's models, unmodified: nothing wrong, nothing left to PyTorch."""

from pathlib import Path

import pytest
import torch

from banyan.devices.native import Missing, find_compiler
from tests.compiler.zoo.comparing import TOLERANCES, compare
from tests.compiler.zoo.models import MODELS, ZooModel

BY_NAME = {model.name: model for model in MODELS}
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCES), ids=["float32", "bfloat16"])


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    # One folder for all tests here: the thread pool is built once.
    path = tmp_path_factory.getbasetemp() / "zoo"
    monkeypatch.setenv("BANYAN_CACHE", str(path))
    return path


def check(model: ZooModel, target: str, dtype: torch.dtype) -> None:
    if target == "cpp" and isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    found = compare(model, target, dtype)
    assert found.report.externs == ()
    assert list(found.errors) == list(model.lengths)
    assert max(found.errors.values()) <= TOLERANCES[dtype], found.errors


@pytest.mark.parametrize("name", ["qwen3_moe", "mamba2"])
def test_a_model_agrees_with_pytorch_at_every_length(name: str) -> None:
    check(BY_NAME[name], "interpreter", torch.float32)


def test_a_diffusion_transformer_agrees_with_pytorch_in_machine_code() -> None:
    check(BY_NAME["dit"], "cpp", torch.float32)


@pytest.mark.wide
@DTYPES
@pytest.mark.parametrize("target", ["cpp", "interpreter"])
@pytest.mark.parametrize("name", list(BY_NAME))
def test_every_model_agrees_with_pytorch(name: str, target: str, dtype: torch.dtype) -> None:
    check(BY_NAME[name], target, dtype)
