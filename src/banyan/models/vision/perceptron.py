"""What both kinds of towers have in their layers: an activation between two matrices."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from banyan.models.layers import Linear

# Of the sigmoid that stands in for the error function (Hendrycks and Gimpel 2016, section 2).
_STEEPNESS = 1.702


def activate(x: Tensor, name: str) -> Tensor:
    """Apply "gelu", "gelu_tanh" or "gelu_sigmoid"."""
    if name == "gelu_sigmoid":
        return x * torch.sigmoid(_STEEPNESS * x)
    return functional.gelu(x, approximate="tanh" if name == "gelu_tanh" else "none")


class Perceptron(nn.Module):
    """`fc2(activation(fc1(x)))`; named `mlp` in checkpoints."""

    def __init__(self, hidden_size: int, intermediate_size: int, activation: str) -> None:
        super().__init__()
        self._activation = activation
        self.fc1 = Linear(hidden_size, intermediate_size, bias=True)
        self.fc2 = Linear(intermediate_size, hidden_size, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Transform [..., hidden_size] to the same shape."""
        result: Tensor = self.fc2(activate(self.fc1(x), self._activation))
        return result
