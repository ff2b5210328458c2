"""`torch.ops.banyan.quantized_linear` in a module: captured, it does what it does eagerly."""

import pytest
import torch

from banyan.compiler.capture import torch_operations
from banyan.compiler.capture.arrays import to_tensor
from tests.compiler.capture.capturing import assert_agrees
from tests.compiler.quantized_graphs import CASES, Case, arrays


@pytest.mark.parametrize("case", [CASES[1], CASES[4], CASES[7]], ids=str)
def test_a_captured_layer_agrees_with_the_eager_one(case: Case) -> None:
    given = {name: to_tensor(array) for name, array in arrays(case).items()}
    bias = torch.linspace(-1, 1, 20).to(given["x"].dtype)
    tensors = [given["x"], given["layer.weight"], given["layer.scales"], bias]
    tensors += [given["layer.zeros"]] if case.zeros else []

    def layer(
        x: torch.Tensor,
        weight: torch.Tensor,
        scales: torch.Tensor,
        bias: torch.Tensor,
        zeros: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        rest = (case.layout, case.group, case.rows, case.activation)
        plain = torch_operations.quantized_linear(x, weight, scales, zeros, None, *rest)
        return [plain, torch_operations.quantized_linear(x, weight, scales, zeros, bias, *rest)]

    assert_agrees(layer, *tensors)
