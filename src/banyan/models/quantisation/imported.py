"""The weights of a quantised checkpoint, as the quantised graph names them.

A weight source like `CheckpointWeights`: one part of one layer is converted at a time, when it is
read. Experts have no quantised operation yet: they come out as floats again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np

from banyan.compiler.ir.graph import Graph
from banyan.foundation.errors import ModelError
from banyan.models.quantisation.graph import expert_layers, linear_layers
from banyan.models.quantisation.importers.awq import import_awq
from banyan.models.quantisation.importers.compressed import import_packed, import_plain
from banyan.models.quantisation.importers.gptq import import_gptq
from banyan.models.quantisation.importers.layer import FLOATS, Array, ImportedLayer, LayerReader
from banyan.models.quantisation.scheme import LinearScheme, dequantize
from banyan.models.quantisation.settings import LayerSettings, QuantisationSettings
from banyan.models.weights import CheckpointWeights, require_tensors

_IMPORTERS: Mapping[str, Callable[[LayerReader], ImportedLayer]] = {
    "awq": import_awq,
    "gptq": import_gptq,
    "packed": import_packed,
    "plain": import_plain,
}
_STORED = {
    "awq": "qweight",
    "gptq": "qweight",
    "packed": "weight_packed",
    "plain": "weight",
}
_WIDE = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


class ImportedWeights:
    """A quantised checkpoint; `schemes` says how each quantised layer is kept in the graph."""

    def __init__(
        self,
        weights: CheckpointWeights,
        settings: QuantisationSettings,
        graph: Graph,
        *,
        dtype: str,
        activation: str | None = None,
    ) -> None:
        """Find and check every quantised layer of `graph`, the plain graph of the model.

        Args:
            weights: the checkpoint.
            settings: what it says of itself.
            graph: names the layers and their sizes.
            dtype: of experts, which become floats again.
            activation: replaces what the checkpoint proposes.

        Raises:
            ModelError: a layer is stored in another way than the settings say.
        """
        self._weights, self._settings, self._dtype = weights, settings, _WIDE[dtype]
        self._layers: dict[str, ImportedLayer] = {}
        for layer, sizes in linear_layers(graph).items():
            found = self._import(layer, sizes)
            if found is not None:
                scheme = found.scheme
                chosen = scheme if activation is None else replace(scheme, activation=activation)
                self._layers[layer] = replace(found, scheme=chosen)
        self._experts: dict[str, list[ImportedLayer]] = {}
        for stack, (count, *expert_sizes) in expert_layers(graph).items():
            experts = [self._import(name, expert_sizes) for name in _members(stack, count)]
            known = [expert for expert in experts if expert is not None]
            if known and (len(known) < count or len({expert.scheme for expert in known}) > 1):
                raise ModelError(
                    f"the experts of {stack} in {self.directory} are stored in different ways"
                )
            if known:
                self._experts[f"{stack}.weight"] = known
        self._parts = {f"{n}.{p}": (n, p) for n, layer in self._layers.items() for p in layer.parts}
        self._sizes: dict[str, tuple[int, ...]] = {**linear_layers(graph), **expert_layers(graph)}

    @property
    def directory(self) -> Path:
        """Where the files lie."""
        return self._weights.directory

    @property
    def schemes(self) -> dict[str, LinearScheme]:
        """How each quantised layer is kept, by the layer's name."""
        return {layer: found.scheme for layer, found in self._layers.items()}

    @property
    def widened(self) -> tuple[str, ...]:
        """Stacks of experts that are quantised in the checkpoint and floats in the graph."""
        return tuple(self._experts)

    def names(self) -> Collection[str]:
        """Give every tensor of the quantised graph, and those nobody asks for."""
        return {*self._weights.names(), *self._parts, *self._experts}

    def shape(self, name: str) -> tuple[int, ...]:
        """Give the shape of a tensor without reading it."""
        layer, _, part = name.rpartition(".")
        if name in self._experts:
            return self._sizes[layer]
        if name in self._parts:
            columns, depth = self._sizes[layer]
            return self._layers[layer].scheme.shapes(columns, depth)[part]
        return self._weights.shape(name)

    def require(self, expected: Mapping[str, Sequence[int]]) -> None:
        """Check that every expected tensor is there; raises `ModelError`."""
        require_tensors(self, expected)

    def read(self, name: str) -> Array:
        """Give a tensor in the form of the graph."""
        if name in self._experts:
            return self._stack(name)
        if name not in self._parts:
            return self._weights.read(name)
        layer, part = self._parts[name]
        return self._convert(self._layers[layer], part)

    def release(self, name: str) -> None:
        """Drop the pages behind a tensor."""
        if name in self._parts:
            layer, part = self._parts[name]
            self._release(self._layers[layer], part)
        elif name not in self._experts:
            self._weights.release(name)

    def _import(self, layer: str, sizes: Sequence[int]) -> ImportedLayer | None:
        """Look at one layer; None when it is kept as floats."""
        settings = self._settings.of_layer(layer)
        plain = self._weights.stored(f"{layer}.weight")
        is_plain = plain is not None and plain.dtype in FLOATS
        stored_as = [part for part in ("qweight", "weight_packed") if self._has(layer, part)]
        if is_plain and stored_as:
            raise ModelError(
                f"layer {layer} in {self.directory} is stored twice, as weight and as "
                f"{stored_as[0]}; remove one of them"
            )
        if is_plain or (settings is None and plain is None and not stored_as):
            return None
        if settings is None:
            raise ModelError(
                f"layer {layer} in {self.directory} is stored quantised, but its configuration "
                "leaves it as it is"
            )
        self._check_storage(layer, settings, stored_as)
        columns, depth = sizes
        reader = LayerReader(self._weights, layer, columns, depth, settings)
        return _IMPORTERS[settings.storage](reader)

    def _has(self, layer: str, part: str) -> bool:
        return self._weights.stored(f"{layer}.{part}") is not None

    def _check_storage(self, layer: str, settings: LayerSettings, stored_as: Sequence[str]) -> None:
        wanted = _STORED[settings.storage]
        if not self._has(layer, wanted):
            found = ", ".join(stored_as) or ("weight" if self._has(layer, "weight") else "nothing")
            raise ModelError(
                f"layer {layer} in {self.directory} lacks {wanted}, which the method "
                f"{self._settings.method} stores; found {found}"
            )

    def _convert(self, layer: ImportedLayer, part: str) -> Array:
        found = layer.parts[part]
        return found.convert(*(self._weights.read_stored(name) for name in found.tensors))

    def _release(self, layer: ImportedLayer, part: str) -> None:
        for name in layer.parts[part].tensors:
            self._weights.release(name)

    def _stack(self, name: str) -> Array:
        """The experts as floats, one at a time beside the stack."""
        stack = np.empty(self.shape(name), self._dtype)
        for number, expert in enumerate(self._experts[name]):
            parts = {part: self._convert(expert, part) for part in expert.parts}
            stack[number] = dequantize(expert.scheme, parts)
            for part in expert.parts:
                self._release(expert, part)
        return stack


def _members(stack: str, count: int) -> list[str]:
    """The layers that the checkpoint has for a stack P.experts.Q: P.experts.0.Q and so on."""
    block, _, matrix = stack.rpartition(".")
    return [f"{block}.{number}.{matrix}" for number in range(count)]
