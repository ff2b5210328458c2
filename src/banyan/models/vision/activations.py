"""The activations that towers name, in PyTorch."""

import torch
from torch import Tensor
from torch.nn import functional

# Of the sigmoid that stands in for the error function (Hendrycks and Gimpel 2016, section 2).
_STEEPNESS = 1.702


def activate(x: Tensor, name: str) -> Tensor:
    """Apply "gelu", "gelu_tanh" or "gelu_sigmoid"."""
    if name == "gelu_sigmoid":
        return x * torch.sigmoid(_STEEPNESS * x)
    return functional.gelu(x, approximate="tanh" if name == "gelu_tanh" else "none")
