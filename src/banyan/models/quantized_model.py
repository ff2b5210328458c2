"""The door for whoever loads a model: which graph to compile, and where its weights are from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from banyan.compiler.executable import WeightSource
from banyan.compiler.ir.graph import Graph
from banyan.foundation.errors import InputError, ModelError
from banyan.models.loading import ModelDirectory
from banyan.models.quantisation.graph import quantize_graph
from banyan.models.quantisation.imported import ImportedWeights
from banyan.models.quantisation.rounded import RoundedWeights, RoundingChoice
from banyan.models.quantisation.scheme import LinearScheme
from banyan.models.weights import CheckpointWeights


class GraphWeights(WeightSource, Protocol):
    """Weights under the names of a graph."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Give the shape of a tensor without reading it."""
        ...

    def require(self, expected: Mapping[str, Sequence[int]]) -> None:
        """Check that every expected tensor is there with its shape; raises `ModelError`."""
        ...


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """Attributes:
    graph: to compile.
    weights: to load into it.
    schemes: how each quantised layer is kept, by its name.
    widened: stacks of experts that are floats in the graph though others are quantised.
    """

    graph: Graph
    weights: GraphWeights
    schemes: Mapping[str, LinearScheme] = field(default_factory=dict)
    widened: tuple[str, ...] = ()

    @property
    def layers(self) -> int:
        """How many layers are quantised."""
        return len(self.schemes)


def quantized_model(
    directory: ModelDirectory,
    weights: CheckpointWeights,
    graph: Graph,
    *,
    dtype: str,
    rounding: RoundingChoice | None = None,
    activation: str | None = None,
) -> QuantizedModel:
    """Join a plain graph and a checkpoint, quantised as the checkpoint or the caller says.

    Args:
        directory: says whether the checkpoint is quantised.
        weights: of the checkpoint.
        graph: the plain graph of the model.
        dtype: "float32" or "bfloat16", the element type of what stays floats.
        rounding: round ordinary weights while they are loaded.
        activation: replaces what a quantised checkpoint proposes.

    Raises:
        ModelError: the checkpoint is not stored as it says.
        InputError: rounding is asked for weights that are quantised already, or an activation for
            weights that are not quantised at all.
    """
    source: ImportedWeights | RoundedWeights
    if directory.quantisation is not None:
        method = directory.quantisation.method
        if rounding is not None:
            raise InputError(
                f"{directory.name} is quantised already, with {method}; leave quantization out"
            )
        source = ImportedWeights(
            weights, directory.quantisation, graph, dtype=dtype, activation=activation
        )
        if not source.schemes and not source.widened:
            raise ModelError(f"{directory.name} says {method}, but no layer is stored quantised")
    elif rounding is not None:
        source = RoundedWeights(weights, rounding.schemes(graph), graph)
    elif activation is not None:
        raise InputError(
            f"{directory.name} has ordinary weights, and activation={activation!r} is for "
            "quantised ones; ask for a quantization too, or leave it out"
        )
    else:
        return QuantizedModel(graph, weights)
    schemes = source.schemes
    return QuantizedModel(quantize_graph(graph, schemes), source, schemes, source.widened)
