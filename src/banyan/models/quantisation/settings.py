"""What config.json says about quantised weights, read strictly into one description.

Formats: AWQ (https://github.com/casper-hansen/AutoAWQ), GPTQ (AutoGPTQ, and its successor
https://github.com/ModelCloud/GPTQModel), compressed-tensors
(https://github.com/vllm-project/compressed-tensors), and the two fp8 methods of transformers.
Whatever changes the meaning of a weight is read or refused; notes on how the weights were made are
left alone.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.json_fields import Fields

METHODS = ("awq", "gptq", "compressed-tensors", "fp8", "fbgemm_fp8")
_LAYOUTS = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized")
_MIXED = "mixed-precision"
"""Each group of layers names a layout of its own."""


@dataclass(frozen=True, slots=True)
class LayerSettings:
    """How the layers of one kind are stored.

    Attributes:
        storage: whose tensors to expect: "awq", "gptq", "packed" or "plain".
        kind: "int" or "float".
        bits: of one weight.
        strategy: what shares a scale: a "tensor", a "channel" (row), a "group" or a "block".
        group: weights of one row that share a scale; None for the whole row.
        rows: rows that share a scale.
        symmetric: there are no zeros.
        activation: "int8" where the rows that come in are rounded too, else "plain".
        old_zeros: zeros are stored less one.
    """

    storage: str
    kind: str
    bits: int
    strategy: str
    group: int | None = None
    rows: int = 1
    symmetric: bool = True
    activation: str = "plain"
    old_zeros: bool = False


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """Layers that match one of `targets`, and how they are stored."""

    targets: tuple[str, ...]
    settings: LayerSettings


@dataclass(frozen=True, slots=True)
class QuantisationSettings:
    """The quantisation of a checkpoint: `ignored` layers are kept as floats.

    A name in `targets` or `ignored` is a layer, a part of its dotted name, or "re:" and a pattern;
    the target "Linear" is every layer that no other target means.
    """

    method: str
    groups: tuple[LayerGroup, ...]
    ignored: tuple[str, ...]

    def is_ignored(self, layer: str) -> bool:
        """Tell whether a layer stays as it is."""
        return any(matches(pattern, layer) for pattern in self.ignored)

    def of_layer(self, layer: str) -> LayerSettings | None:
        """How a layer is stored, or None when it is kept as floats."""
        if self.is_ignored(layer):
            return None
        # As in compressed-tensors: the layer's own name before patterns, and those before kinds.
        for meant in (layer.__eq__, lambda t: matches(t, layer), "Linear".__eq__):
            for group in self.groups:
                if any(meant(target) for target in group.targets):
                    return group.settings
        return None


def read_quantisation(directory: Path) -> QuantisationSettings | None:
    """Read the quantisation of a model directory; None for ordinary weights.

    Raises:
        UnsupportedModelError: a method or a variant that is not known here.
        ModelError: the description is damaged or contradicts itself.
    """
    fields = Fields.read(directory / "config.json")
    for name in ("quantization_config", "compression_config"):
        found = fields.nested(name)
        if found is not None:
            return parse_quantisation(found)
    # AutoGPTQ and AutoAWQ once wrote files of their own beside config.json.
    for name, method in (("quantize_config.json", "gptq"), ("quant_config.json", "awq")):
        if (directory / name).is_file():
            return parse_quantisation(Fields.read(directory / name), method)
    return None


def parse_quantisation(fields: Fields, default_method: str | None = None) -> QuantisationSettings:
    """Parse the object `quantization_config`; raises as `read_quantisation` does."""
    if default_method is None and not fields.has("quant_method"):
        raise ModelError(f"{fields.origin} names no 'quant_method'; known are {', '.join(METHODS)}")
    method = fields.text("quant_method", default_method)
    if method not in METHODS:
        raise UnsupportedModelError(
            f"{fields.origin} describes weights quantised with {method!r}; known are "
            f"{', '.join(METHODS)}"
        )
    if method == "compressed-tensors":
        return _compressed(fields)
    layer = {"awq": _awq, "gptq": _gptq, "fp8": _fp8, "fbgemm_fp8": _fp8}[method](fields)
    ignored = (*_patterns(fields, "modules_to_not_convert"), *_patterns(fields, "ignored_layers"))
    return QuantisationSettings(method, (LayerGroup(("Linear",), layer),), ignored)


def matches(pattern: str, layer: str) -> bool:
    """Tell whether a layer is meant: by a part of its dotted name, or by "re:" and a pattern."""
    if pattern.startswith("re:"):
        return re.match(pattern.removeprefix("re:"), layer) is not None
    return f".{pattern}." in f".{layer}."


def problem_of_pattern(pattern: str) -> str | None:
    """Why `matches` cannot take a pattern; None when it can."""
    if not pattern.startswith("re:"):
        return None
    try:
        re.compile(pattern.removeprefix("re:"))
    except re.error as error:
        return f"{pattern!r}, which is no pattern: {error}"
    return None


def _group(fields: Fields, name: str) -> int | None:
    size = fields.integer(name, -1, minimum=-1)
    return None if size in (-1, 0) else size


def _awq(fields: Fields) -> LayerSettings:
    _expect(fields, "version", "gemm", "gemm")
    bits = fields.integer("bits", fields.integer("w_bit", 4))
    if bits != 4:
        raise UnsupportedModelError(f"{fields.origin}: awq has 'bits' {bits}; supported is 4")
    group = _group(fields, "q_group_size" if fields.has("q_group_size") else "group_size")
    symmetric = not fields.flag("zero_point", True)
    return LayerSettings("awq", "int", bits, "group", group, symmetric=symmetric)


def _gptq(fields: Fields) -> LayerSettings:
    bits = fields.integer("bits")
    if bits not in (4, 8):
        raise UnsupportedModelError(
            f"{fields.origin}: gptq has 'bits' {bits}; supported are 4 and 8"
        )
    # GPTQModel has called the field "format" too.
    name = "checkpoint_format" if fields.has("checkpoint_format") else "format"
    layout = _expect(fields, name, "gptq", "gptq", "gptq_v2")
    exceptions = fields.nested("dynamic")
    if exceptions is not None and exceptions.values:
        raise UnsupportedModelError(
            f"{fields.origin}: gptq gives some layers settings of their own ('dynamic'), which "
            "are not read; use a checkpoint with one setting for all layers"
        )
    symmetric = fields.flag("sym", True)
    group = _group(fields, "group_size")
    return LayerSettings(
        "gptq", "int", bits, "group", group, symmetric=symmetric, old_zeros=layout == "gptq"
    )


def _fp8(fields: Fields) -> LayerSettings:
    _expect(fields, "fmt", "e4m3", "e4m3")
    block = fields.integers("weight_block_size")
    if not block:
        return LayerSettings("plain", "float", 8, "channel")
    if len(block) != 2 or min(block) < 1:
        raise ModelError(f"{fields.origin}: 'weight_block_size' must be two sizes, found {block}")
    return LayerSettings("plain", "float", 8, "block", block[1], block[0])


def _compressed(fields: Fields) -> QuantisationSettings:
    layout = _expect(fields, "format", "", *_LAYOUTS, _MIXED)
    sparsity = fields.nested("sparsity_config")
    if sparsity is not None and sparsity.text("format", "dense") != "dense":
        raise UnsupportedModelError(
            f"{fields.origin} describes sparse weights ({sparsity.text('format')}); supported is "
            "'dense'"
        )
    transforms = fields.nested("transform_config")
    if transforms is not None and transforms.values.get("config_groups"):
        raise UnsupportedModelError(
            f"{fields.origin} describes weights that were turned ('transform_config'), which is "
            "not read; use a checkpoint made without transforms"
        )
    groups = fields.nested("config_groups")
    if groups is None or not groups.values:
        raise ModelError(f"{fields.origin} lacks the field 'config_groups'")
    found = [_compressed_group(groups, name, layout) for name in groups.values]
    return QuantisationSettings("compressed-tensors", tuple(found), _patterns(fields, "ignore"))


def _compressed_group(groups: Fields, name: str, layout: str) -> LayerGroup:
    group = groups.nested(name)
    weights = None if group is None else group.nested("weights")
    if group is None or weights is None:
        raise ModelError(f"{groups.origin}: {name!r} says nothing of 'weights'")
    layout = _expect(group, "format", layout, *(_LAYOUTS if layout == _MIXED else (layout,)))
    kind = _expect(weights, "type", "int", "int", "float")
    bits = weights.integer("num_bits", 8)
    if bits not in ((4, 8) if kind == "int" else (8,)):
        raise UnsupportedModelError(
            f"{weights.origin} asks for {kind} weights of {bits} bits; supported are int of 4 "
            "and 8, and float of 8"
        )
    strategies = ("tensor", "channel", "group", "block")
    strategy = _expect(weights, "strategy", "tensor", *strategies)
    block = weights.integers("block_structure")
    if strategy == "block" and (len(block) != 2 or min(block) < 1 or kind == "int"):
        raise UnsupportedModelError(
            f"{weights.origin} asks for {kind} weights in blocks of {block}; supported are float "
            "weights in blocks of two sizes"
        )
    sizes = (block[1], block[0]) if strategy == "block" else (None, 1)
    if strategy == "group":
        sizes = (weights.integer("group_size"), 1)
    settings = LayerSettings(
        "packed" if layout == "pack-quantized" else "plain",
        kind,
        bits,
        strategy,
        sizes[0],
        sizes[1],
        symmetric=weights.flag("symmetric", True),
        activation=_rounded_inputs(group),
    )
    return LayerGroup(_patterns(group, "targets"), settings)


def _patterns(fields: Fields, name: str) -> tuple[str, ...]:
    found = fields.texts(name)
    for pattern in found:
        problem = problem_of_pattern(pattern)
        if problem is not None:
            raise ModelError(f"{fields.origin}: {name!r} holds {problem}")
    return found


def _rounded_inputs(group: Fields) -> str:
    """Integers of 8 bits are rounded at run time here, also where the checkpoint has fixed scales.

    Inputs in fp8 stay as they are, which is more exact.
    """
    inputs = group.nested("input_activations")
    if inputs is None or inputs.text("type", "int") == "float":
        return "plain"
    bits = inputs.integer("num_bits", 8)
    if bits != 8:
        raise UnsupportedModelError(
            f"{inputs.origin} asks for inputs of {bits} bits; supported is 8"
        )
    return "int8"


def _expect(fields: Fields, name: str, default: str, *supported: str) -> str:
    value = fields.text(name, default).lower()
    if value not in supported:
        raise UnsupportedModelError(
            f"{fields.origin} asks for {name} {value!r}; supported are {', '.join(supported)}"
        )
    return value
