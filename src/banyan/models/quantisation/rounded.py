"""Ordinary weights that are rounded while they are loaded."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from banyan.compiler.executable import WeightSource
from banyan.compiler.ir.graph import Graph
from banyan.foundation.errors import InputError
from banyan.models.quantisation.graph import expert_layers, linear_layers, tied_layers
from banyan.models.quantisation.importers.layer import Array
from banyan.models.quantisation.rounding import Rounding, require_finite, round_weight
from banyan.models.quantisation.scheme import ACTIVATIONS, FORMATS, LinearScheme, Parts
from banyan.models.quantisation.settings import matches, problem_of_pattern
from banyan.models.weights import Checked, require_tensors

KEPT = ("lm_head", "gate")
"""Layers that stay floats unless named: the output matrix, and routers of experts."""

_USUAL_GROUPS = (64, 32)


@dataclass(frozen=True, slots=True)
class RoundingChoice:
    """What a person asks for.

    Attributes:
        format: "int8", "int4" or "fp8".
        group: for "int4", weights that share a scale; None chooses 64, or less where it must.
        asymmetric: 4-bit weights carry a zero for each group.
        activation: "plain", "int8", or None for the format's own: "int8" for "int8".
        keep: parts of dotted names of layers that stay floats.
        output: "int8" or "int4" rounds the output matrix to that, and with it an embedding table
            that is the same; None leaves it to `keep`, and such a table a float.
    """

    format: str
    group: int | None = None
    asymmetric: bool = False
    activation: str | None = None
    keep: tuple[str, ...] = KEPT
    output: str | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise InputError(
                f"quantization={self.format!r} is not known; use one of {', '.join(FORMATS)}"
            )
        if self.activation not in (None, *ACTIVATIONS):
            raise InputError(
                f"activation={self.activation!r} is not known; use one of {', '.join(ACTIVATIONS)}"
            )
        if self.group is not None and self.format != "int4":
            raise InputError(f"groups are for int4 only, not for {self.format}; leave group out")
        if self.asymmetric and self.format != "int4":
            raise InputError(
                f"zeros are for int4 only, not for {self.format}; leave asymmetric out"
            )
        problems = [problem_of_pattern(pattern) for pattern in self.keep]
        if found := next((problem for problem in problems if problem is not None), None):
            raise InputError(f"the layers to keep hold {found}")

    def scheme(self, layer: str, depth: int) -> LinearScheme:
        """The scheme of a layer of this width.

        Raises:
            InputError: the group asked for does not divide the width.
        """
        group = depth
        if self.group is not None:
            group = self.group
        elif self.format == "int4":
            group = next((size for size in _USUAL_GROUPS if depth % size == 0), depth)
        if depth % group != 0 or (self.format == "int4" and group % 2 != 0):
            raise InputError(
                f"groups of {group} do not divide the width {depth} of layer {layer}; choose "
                "another group, or keep the layer"
            )
        usual = "int8" if self.format == "int8" else "plain"
        activation = usual if self.activation is None else self.activation
        return LinearScheme(self.format, group, activation=activation, zeros=self.asymmetric)

    def schemes(self, graph: Graph) -> dict[str, LinearScheme]:
        """The scheme of every layer of a plain graph that is to be rounded.

        Raises:
            InputError: there is none, the group asked for does not divide the width of one, or a
                layer to keep is not there.
        """
        layers = linear_layers(graph)
        for pattern in set(self.keep) - set(KEPT):
            if not any(matches(pattern, layer) for layer in (*layers, *expert_layers(graph))):
                raise InputError(
                    f"the model has no linear layer {pattern!r} to keep; name a whole part of a "
                    f"dotted name like {next(iter(layers), 'q_proj')}, or 're:' and a pattern"
                )
        found = {
            layer: self.scheme(layer, depth)
            for layer, (_, depth) in layers.items()
            if not any(matches(pattern, layer) for pattern in self.keep)
        }
        found |= self._output_schemes(graph)
        if not found:
            raise InputError(
                f"no layer is left to round to {self.format}: the model has no other linear layers "
                f"than those that are kept ({', '.join(self.keep)})"
            )
        return found

    def _output_schemes(self, graph: Graph) -> dict[str, LinearScheme]:
        """The schemes of the output matrix and of a table that is the same."""
        if self.output is None:
            return {}
        heads = {n: s for n, s in linear_layers(graph).items() if matches(KEPT[0], n)}
        group = self.group if self.output == self.format else None
        whole = RoundingChoice(self.output, group=group, activation=self.activation)
        return {
            layer: whole.scheme(layer, depth)
            for layer, (_, depth) in (heads | tied_layers(graph)).items()
        }


class PlainWeights(WeightSource, Checked, Protocol):
    """Weights that are floats."""

    def names(self) -> Collection[str]:
        """Every tensor there is."""
        ...


class RoundedWeights:
    """A weight source that rounds one layer at a time, when its first part is read."""

    def __init__(
        self, weights: PlainWeights, schemes: Mapping[str, LinearScheme], graph: Graph
    ) -> None:
        """Take a checkpoint and its plain graph."""
        self._weights = weights
        self._schemes = dict(schemes)
        sizes = linear_layers(graph) | tied_layers(graph)
        self._shapes = {
            f"{layer}.{part}": shape
            for layer, scheme in schemes.items()
            for part, shape in scheme.shapes(*sizes[layer]).items()
        }
        self._plain = {f"{layer}.weight": sizes[layer] for layer in schemes}
        self._layer, self._parts = "", Parts()
        self.widened = tuple(expert_layers(graph))

    @property
    def directory(self) -> Path:
        """Where the files lie."""
        return self._weights.directory

    @property
    def schemes(self) -> dict[str, LinearScheme]:
        """How each quantised layer is kept, by the layer's name."""
        return dict(self._schemes)

    def names(self) -> Collection[str]:
        """Give every tensor of the quantised graph, and those nobody asks for."""
        return {*self._weights.names(), *self._shapes}

    def shape(self, name: str) -> tuple[int, ...]:
        """Give the shape of a tensor without reading it."""
        return self._shapes[name] if name in self._shapes else self._weights.shape(name)

    def require(self, expected: Mapping[str, Sequence[int]]) -> None:
        """Check that every expected tensor is there; raises `ModelError`."""
        require_tensors(self._weights, self._plain)
        require_tensors(self, expected)

    def read(self, name: str) -> Array:
        """Give a tensor in the form of the graph."""
        if name not in self._shapes:
            return self._weights.read(name)
        layer, _, part = name.rpartition(".")
        if layer != self._layer:
            self._layer, self._parts = layer, self._rounded(layer)
        return self._parts[part]

    def release(self, name: str) -> None:
        """Drop the pages behind a tensor; the parts of a layer go when the next one is read."""
        if name not in self._shapes:
            self._weights.release(name)

    def _rounded(self, layer: str) -> Parts:
        weight = self._weights.read(f"{layer}.weight")
        require_finite(weight, layer)
        parts = round_weight(weight, self._schemes[layer], Rounding())
        self._weights.release(f"{layer}.weight")
        return parts
