"""Build a module without memory for its weights, to capture it."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from banyan.models.layers import Float32Parameter

Module = TypeVar("Module", bound=nn.Module)


def build_fake(build: Callable[[], Module], mode: FakeTensorMode, *, dtype: torch.dtype) -> Module:
    """Build a module whose parameters are fake tensors of `dtype`; its buffers stay real.

    Real buffers, such as the frequencies of a rope, become constants of the captured graph.
    """
    # First without any storage, then fake on the CPU: meta tensors do not mix with real buffers.
    with torch.device("meta"):
        module = build()
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            with mode:
                kind = torch.float32 if isinstance(parameter, Float32Parameter) else dtype
                fake = torch.empty(parameter.shape, dtype=kind, device="cpu")
            setattr(part, name, nn.Parameter(fake, requires_grad=False))
    return module.eval()
