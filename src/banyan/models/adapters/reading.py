"""Read an adapter: its settings and its tensors, checked against the model it is to change.

Everything is copied into memory, so the files may change or go afterwards. Only safetensors files
are opened: a pickle runs the code of whoever wrote it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.adapters.settings import AdapterSettings, read_settings
from banyan.models.adapters.targets import Target, known_targets
from banyan.models.configuration import ModelConfiguration
from banyan.models.safetensors_file import SafetensorsFile

FloatArray = NDArray[np.float32]

WEIGHTS_FILE = "adapter_model.safetensors"
_PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth", "adapter_model.ckpt")
# A zip archive (torch.save since 1.6), then pickle protocols 2 to 5.
_BEGINNINGS_OF_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

_TENSOR = re.compile(
    r"base_model\.model\.(?P<module>model\.layers\.(?P<layer>\d{1,6})\.(?P<path>[\w.]+))"
    r"\.lora_(?P<half>[AB])\.weight"
)


@dataclass(frozen=True, slots=True)
class LowRankPair:
    """The change of one layer: y += up (down x), the scale multiplied into `up`.

    Attributes:
        down: [r, K] float32; "lora_A" of PEFT.
        up: [N, r] float32; "lora_B" times alpha / r.
    """

    down: FloatArray
    up: FloatArray

    @property
    def rank(self) -> int:
        """r."""
        return int(self.down.shape[0])


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that fits its model.

    Attributes:
        path: where it was read.
        base_model: the name of its base, as the file has it; may be empty.
        pairs: by decoder layer and path, for example (0, "self_attn.q_proj").
    """

    path: str
    base_model: str
    pairs: Mapping[tuple[int, str], LowRankPair]

    @property
    def rank(self) -> int:
        """The largest rank of its layers."""
        return max(pair.rank for pair in self.pairs.values())


def read_adapter(directory: Path, model: ModelConfiguration, *, max_rank: int) -> Adapter:
    """Read the adapter in `directory` for the decoder `model`.

    Raises:
        ModelError: a file is missing or damaged, or the adapter belongs to another base.
        UnsupportedModelError: an option, a layer or a rank that cannot be served; or a pickle.
    """
    if not directory.is_dir():
        raise ModelError(f"there is no adapter directory {directory}; give the path of a folder")
    settings = read_settings(directory)
    file = _open_weights(directory)
    halves = _halves(file, known_targets(model), model.num_layers)
    _require_all(file.path, settings, halves)
    pairs = {}
    for place, (target, names) in halves.items():
        module = f"model.layers.{place[0]}.{place[1]}"
        pair = _pair(file, target, names, (settings.rank_of(module), max_rank))
        scale = settings.scale_of(module)
        with np.errstate(over="ignore", invalid="ignore"):
            pair.up[...] *= np.float32(scale)
        _require_finite(pair.up, f"{file.path}: {names['B']!r} times its scale {scale:g}")
        pairs[place] = pair
    return Adapter(str(directory), settings.base_model, pairs)


def _open_weights(directory: Path) -> SafetensorsFile:
    path = directory / WEIGHTS_FILE
    if not path.exists():
        pickles = [name for name in _PICKLES if (directory / name).exists()]
        if pickles:
            raise UnsupportedModelError(
                f"{directory / pickles[0]} is a pickle, which could run code of its writer; save "
                f"the adapter as {WEIGHTS_FILE} (PEFT: save_pretrained(safe_serialization=True))"
            )
        raise ModelError(f"{path} does not exist; the adapter directory is incomplete")
    with path.open("rb") as opened:
        beginning = opened.read(9)
    # A header's length may look like a pickle's first bytes; what follows it is always a brace.
    if beginning.startswith(_BEGINNINGS_OF_PICKLES) and beginning[8:] != b"{":
        raise UnsupportedModelError(
            f"{path} is a pickle under another name, which could run code of its writer; save the "
            "adapter as safetensors"
        )
    return SafetensorsFile(path)


_Halves = dict[tuple[int, str], tuple[Target, dict[str, str]]]


def _halves(
    file: SafetensorsFile, known: Mapping[tuple[int, str], Target], num_layers: int
) -> _Halves:
    """The names of both tensors of each adapted layer."""
    found: _Halves = {}
    for name in file.names():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise UnsupportedModelError(
                f"{file.path}: the tensor {name!r} is no low-rank half of a decoder layer; only "
                "lora_A and lora_B of attention and feed-forward layers are supported"
            )
        layer, path = int(match["layer"]), match["path"]
        target = known.get((layer, path))
        if target is None and layer >= num_layers:
            raise ModelError(
                f"{file.path}: the tensor {name!r} is for layer {layer}, but the model has "
                f"{num_layers}; the adapter was trained on another base"
            )
        if target is None:
            supported = sorted({target.module for target in known.values()})
            raise UnsupportedModelError(
                f"{file.path}: the layer {match['module']!r} cannot be adapted; supported are "
                f"{', '.join(supported)}"
            )
        found.setdefault((layer, path), (target, {}))[1][match["half"]] = name
    return found


def _require_all(path: Path, settings: AdapterSettings, halves: _Halves) -> None:
    if not halves:
        raise ModelError(f"{path} holds no tensors; the adapter is empty")
    for (layer, target), (_, names) in halves.items():
        for half in "AB":
            if half not in names:
                raise ModelError(
                    f"{path} lacks lora_{half} of layers.{layer}.{target}; the file is incomplete"
                )
    for module in settings.target_modules:
        paths = (f"model.layers.{layer}.{target}" for layer, target in halves)
        if not any(name == module or name.endswith(f".{module}") for name in paths):
            raise ModelError(
                f"{path} holds no tensor of the target module {module!r} that its configuration "
                "names; the file is incomplete or belongs to another base"
            )


def _pair(
    file: SafetensorsFile, target: Target, names: Mapping[str, str], ranks: tuple[int, int]
) -> LowRankPair:
    """Both halves of one layer; `ranks` are the rank that is told and the largest allowed."""
    rank, max_rank = ranks
    if rank > max_rank:
        raise UnsupportedModelError(
            f"{file.path}: {target.module} has rank {rank}, more than max_lora_rank={max_rank}; "
            "raise max_lora_rank"
        )
    wanted = {"A": (rank, target.inputs), "B": (target.outputs, rank)}
    arrays = {}
    for half, shape in wanted.items():
        entry = file.entries[names[half]]
        if entry.shape != shape:
            raise ModelError(
                f"{file.path}: {names[half]!r} has shape {list(entry.shape)}, where this model and "
                f"rank {rank} need {list(shape)}; the adapter was trained on another base or its "
                "configuration is wrong"
            )
        arrays[half] = _floats(file, names[half])
    return LowRankPair(arrays["A"], arrays["B"])


def _floats(file: SafetensorsFile, name: str) -> FloatArray:
    stored: NDArray[Any] = file.read(name)
    array = np.array(stored, np.float32, order="C")
    file.release(name)
    _require_finite(array, f"{file.path}: the tensor {name!r}")
    return array


def _require_finite(array: FloatArray, what: str) -> None:
    if not np.isfinite(array).all():
        raise ModelError(f"{what} holds NaN or infinity; the adapter is damaged")
