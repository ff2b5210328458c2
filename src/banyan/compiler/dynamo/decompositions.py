"""Which ATen operations PyTorch takes apart before we see them."""

from collections.abc import Callable
from typing import Any

from torch._decomp import core_aten_decompositions

from banyan.compiler.capture.aten import RULES

PAIRED = ("scaled_dot_product", "_fused_sdp")
"""Forward operations whose backward reads what only they return: taking one of a pair apart gives
wrong gradients in silence, so both stay whole."""


def chosen_decompositions() -> dict[Any, Callable[..., Any]]:
    """PyTorch's own table without what we have a rule for and without halves of pairs."""
    table: dict[Any, Callable[..., Any]] = dict(core_aten_decompositions())
    return {
        operation: function
        for operation, function in table.items()
        if str(operation) not in RULES and not any(part in str(operation) for part in PAIRED)
    }
