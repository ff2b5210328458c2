"""All rules from ATen operations to ours, by the name of the overload."""

from collections.abc import Mapping

from banyan.compiler.capture import (
    aten_contract,
    aten_normalise,
    aten_order,
    aten_pointwise,
    aten_reduce,
    aten_scatter,
    aten_shape,
    aten_training,
    aten_window,
)
from banyan.compiler.capture.emitter import Rule

RULES: Mapping[str, Rule] = {
    **aten_pointwise.RULES,
    **aten_shape.RULES,
    **aten_reduce.RULES,
    **aten_contract.RULES,
    **aten_training.RULES,
    **aten_window.RULES,
    **aten_scatter.RULES,
    **aten_order.RULES,
    **aten_normalise.RULES,
}
"""Anything that is not here becomes an `extern` node."""
