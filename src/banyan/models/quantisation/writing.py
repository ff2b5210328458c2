"""Write a quantised model directory in the layout of compressed-tensors, which others read too.

One layer is rounded at a time. Every other tensor is copied as it is, and so is every other file.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from banyan.foundation.errors import InputError, StorageFull
from banyan.models.quantisation.feedback import round_for_rows
from banyan.models.quantisation.rounding import Rounding, require_finite, round_weight
from banyan.models.quantisation.scheme import LinearScheme, Parts
from banyan.models.safetensors_writing import PlannedTensor, write_safetensors
from banyan.models.weights import CheckpointWeights

_SCALE_TYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
_WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pt", "*.pth", "*.gguf")
_WORDS = {"int4": 8, "int8": 4}
_MIDDLE_OF_BYTE = 128


@dataclass(slots=True)
class QuantizedDirectory:
    """Writes one model.

    Attributes:
        source: the ordinary model directory.
        weights: its weights.
        schemes: the layers to round.
        rows: gives rows that reach a layer, to round it by.
        seen: told each layer, its weight, scheme and parts, once it is rounded.
    """

    source: Path
    weights: CheckpointWeights
    schemes: Mapping[str, LinearScheme]
    rows: Callable[[str], NDArray[Any]] | None = None
    seen: Callable[[str, NDArray[Any], LinearScheme, Parts], None] | None = None
    _current: tuple[str, Parts] = ("", {})
    _copied: str = ""
    _names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._names = {key: name for name, key in self.weights.keys().items()}

    def write(self, target: Path, progress: Callable[[int, int], None] | None = None) -> None:
        """Write into `target`, which must be new or empty; nothing is left there on failure.

        Raises:
            InputError: `target` holds something already.
            StorageFull: the disk cannot hold it.
        """
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InputError(f"{target} is there already; name a directory that is new or empty")
        partial = target.with_name(f"{target.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            self._copy_files(partial)
            tensors = [planned for name in self._names.values() for planned in self._plan(name)]
            write_safetensors(partial, tensors, self._read, progress=progress)
            self._write_configuration(partial / "config.json")
            if target.exists():
                target.rmdir()
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _copy_files(self, partial: Path) -> None:
        weights, place = shutil.ignore_patterns(*_WEIGHT_FILES), partial.resolve()

        def left_out(folder: str, names: list[str]) -> set[str]:
            # The target may lie inside the model.
            own = {name for name in names if Path(folder, name).resolve() == place}
            return weights(folder, names) | own

        try:
            shutil.copytree(self.source, partial, ignore=left_out)
        except OSError as error:
            raise StorageFull(f"{partial} cannot be written: {error}") from error

    def _plan(self, name: str) -> list[PlannedTensor]:
        """What a stored tensor becomes; names are those of the files."""
        entry, key = self.weights.stored(name), self.weights.keys()[name]
        layer, _, part = name.rpartition(".")
        assert entry is not None, "every key is stored"
        scheme = self.schemes.get(layer) if part == "weight" else None
        if scheme is None:
            return [PlannedTensor(key, entry.dtype, entry.shape)]
        columns, depth = entry.shape
        stem = key.removesuffix(".weight")
        scales = PlannedTensor(
            f"{stem}.weight_scale",
            _scale_type(scheme, entry.dtype),
            (columns, depth // scheme.group),
        )
        if not _is_packed(scheme):
            stored = "I8" if scheme.format == "int8" else "F8_E4M3"
            return [PlannedTensor(f"{stem}.weight", stored, (columns, depth)), scales]
        words = -(-depth // _WORDS[scheme.format])
        found = [
            PlannedTensor(f"{stem}.weight_packed", "I32", (columns, words)),
            scales,
            PlannedTensor(f"{stem}.weight_shape", "I64", (2,)),
        ]
        if scheme.zeros:
            shape = (-(-columns // 8), depth // scheme.group)
            found.append(PlannedTensor(f"{stem}.weight_zero_point", "I32", shape))
        return found

    def _read(self, key: str) -> NDArray[Any]:
        """The data of a tensor under the name it has in the new files."""
        stem, _, part = key.rpartition(".")
        name = self._names.get(f"{stem}.weight", "")
        layer = name.removesuffix(".weight")
        is_weight = self._names.get(key, name) == name
        if layer not in self.schemes or not is_weight:
            if self._copied:
                self.weights.release(self._copied)
            self._copied = self._names[key]
            return self.weights.read_stored(self._copied)
        scheme = self.schemes[layer]
        parts = self._rounded(layer, scheme)
        depth = self.weights.shape(name)[1]
        entry = self.weights.stored(name)
        assert entry is not None, "every layer is stored"
        if part == "weight_scale":
            return parts["scales"].astype(_SCALE_TYPES[_scale_type(scheme, entry.dtype)])
        if part == "weight_shape":
            return np.array(entry.shape, np.int64)
        if part == "weight_zero_point":
            return _packed_zeros(parts["zeros"])
        return _words(parts["weight"], scheme, depth) if _is_packed(scheme) else parts["weight"]

    def _rounded(self, layer: str, scheme: LinearScheme) -> Parts:
        if self._current[0] != layer:
            name = f"{layer}.weight"
            entry = self.weights.stored(name)
            assert entry is not None, "every layer is stored"
            kept = np.dtype(_SCALE_TYPES[_scale_type(scheme, entry.dtype)])
            weight = self.weights.read(name)
            require_finite(weight, layer)
            if self.rows is None:
                parts = round_weight(weight, scheme, Rounding(scale_dtype=kept))
            else:
                parts = round_for_rows(weight, scheme, self.rows(layer), kept)
            if self.seen is not None:
                self.seen(layer, weight, scheme, parts)
            self._current = (layer, parts)
            self.weights.release(name)
        return self._current[1]

    def _write_configuration(self, path: Path) -> None:
        fields = json.loads(path.read_text(encoding="utf-8"))
        floats = self._floats()
        # A tied output matrix is not stored, and others would look for it all the same.
        if fields.get("tie_word_embeddings") and "lm_head" not in floats:
            floats.append("lm_head")
        fields["quantization_config"] = configuration_of(self.schemes, floats)
        path.write_text(json.dumps(fields, ensure_ascii=False, indent=2), encoding="utf-8")

    def _floats(self) -> list[str]:
        """Two-dimensional weights that stay as they are, so that nobody looks for others."""
        names = [name for name in self._names.values() if name.endswith(".weight")]
        entries = {name.removesuffix(".weight"): self.weights.stored(name) for name in names}
        return [
            layer
            for layer, entry in entries.items()
            if entry is not None and len(entry.shape) == 2 and layer not in self.schemes
        ]


def configuration_of(schemes: Mapping[str, LinearScheme], floats: list[str]) -> dict[str, Any]:
    """The field `quantization_config`: one group for each scheme, layers by name."""
    kinds: dict[str, tuple[LinearScheme, list[str]]] = {}
    for layer, scheme in schemes.items():
        # Whole rows are one kind, however long they are.
        kind = replace(scheme, group=0) if scheme.format != "int4" else scheme
        kinds.setdefault(str(kind), (scheme, []))[1].append(layer)
    layouts = {_layout(scheme) for scheme, _ in kinds.values()}
    groups = {
        f"group_{number}": {
            "targets": ["Linear"] if len(kinds) == 1 else layers,
            "weights": _weight_fields(scheme),
            "input_activations": _ROUNDED_INPUTS if scheme.activation == "int8" else None,
            "output_activations": None,
            "format": _layout(scheme),
        }
        for number, (scheme, layers) in enumerate(kinds.values())
    }
    return {
        "quant_method": "compressed-tensors",
        "format": layouts.pop() if len(layouts) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": floats,
        "kv_cache_scheme": None,
    }


_ROUNDED_INPUTS = {
    "num_bits": 8,
    "type": "int",
    "symmetric": True,
    "strategy": "token",
    "dynamic": True,
}


def _weight_fields(scheme: LinearScheme) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "num_bits": 4 if scheme.format == "int4" else 8,
        "type": "float" if scheme.format == "fp8" else "int",
        "symmetric": not scheme.zeros,
        "strategy": "channel",
        "dynamic": False,
    }
    if scheme.format == "int4":
        fields |= {"strategy": "group", "group_size": scheme.group}
    return fields


def _is_packed(scheme: LinearScheme) -> bool:
    return scheme.format == "int4" or (scheme.format == "int8" and scheme.activation == "plain")


def _layout(scheme: LinearScheme) -> str:
    if _is_packed(scheme):
        return "pack-quantized"
    return "int-quantized" if scheme.format == "int8" else "float-quantized"


def _scale_type(scheme: LinearScheme, stored: str) -> str:
    """Scales of groups are kept as the weights were; those of rows are few, and exact."""
    return stored if scheme.format == "int4" else "F32"


def _words(weight: NDArray[Any], scheme: LinearScheme, depth: int) -> NDArray[Any]:
    """Our bytes as words of 32 bits, low bits first; a row ends in zeros."""
    octets = weight if scheme.format == "int4" else weight.view(np.uint8) ^ _MIDDLE_OF_BYTE
    missing = -octets.shape[1] % 4
    padded = np.pad(octets, ((0, 0), (0, missing)))
    return np.ascontiguousarray(padded).view(np.int32)


def _packed_zeros(zeros: NDArray[Any]) -> NDArray[Any]:
    """[N, G] to [N / 8, G] words along the rows."""
    rows = np.pad(zeros, ((0, -zeros.shape[0] % 8), (0, 0))).T
    octets = np.ascontiguousarray(rows[:, 0::2] | (rows[:, 1::2] << 4))
    return np.ascontiguousarray(octets.view(np.int32).T)
