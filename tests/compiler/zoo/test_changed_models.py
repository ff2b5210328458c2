"""Decoders that somebody changed by hand: they compile, agree, and leave nothing to PyTorch."""

import pytest
import torch

from tests.compiler.zoo.changed_models import CHANGED
from tests.compiler.zoo.comparing import TOLERANCES, check

BY_NAME = {model.name: model for model in CHANGED}


def test_there_are_ten_changes() -> None:
    assert len(BY_NAME) == 10


def test_a_model_with_lora_inside_agrees_with_pytorch() -> None:
    check(BY_NAME["lora_inside"], "interpreter", torch.float32)


@pytest.mark.wide
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=["float32", "bfloat16"])
@pytest.mark.parametrize("target", ["cpp", "interpreter"])
@pytest.mark.parametrize("name", list(BY_NAME))
def test_every_changed_model_agrees_with_pytorch(
    name: str, target: str, dtype: torch.dtype
) -> None:
    check(BY_NAME[name], target, dtype)
