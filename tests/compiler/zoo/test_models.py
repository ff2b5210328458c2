"""Other people's models, unmodified: nothing wrong, nothing left to PyTorch."""

import pytest
import torch

from tests.compiler.zoo.comparing import TOLERANCES, check
from tests.compiler.zoo.models import MODELS

BY_NAME = {model.name: model for model in MODELS}
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCES), ids=["float32", "bfloat16"])


def test_a_mixture_of_experts_agrees_with_pytorch_at_every_length() -> None:
    check(BY_NAME["qwen3_moe"], "interpreter", torch.float32)


def test_a_diffusion_transformer_agrees_with_pytorch_in_machine_code() -> None:
    check(BY_NAME["dit"], "cpp", torch.float32)


@pytest.mark.wide
@DTYPES
@pytest.mark.parametrize("target", ["cpp", "interpreter"])
@pytest.mark.parametrize("name", list(BY_NAME))
def test_every_model_agrees_with_pytorch(name: str, target: str, dtype: torch.dtype) -> None:
    check(BY_NAME[name], target, dtype)
