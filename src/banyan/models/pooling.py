"""From the vectors of an encoder's tokens to one vector per text.

Reads the files that sentence-transformers keeps beside a model (`modules.json`,
`1_Pooling/config.json`, `sentence_bert_config.json`) and applies them. NumPy only.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from banyan.foundation.errors import UnsupportedModelError
from banyan.models.json_fields import Fields
from banyan.models.task import read_modules

Mode: TypeAlias = Literal["mean", "cls", "lasttoken"]
SUPPORTED_MODES: tuple[Mode, ...] = ("mean", "cls", "lasttoken")

# Keys of older files, one flag per mode; the newer `pooling_mode` holds the name.
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class Pooling:
    """How to make one vector of many.

    `mode` is the mean over the tokens, or the vector of the first or the last one; `normalise`
    divides by the L2 norm; a text is cut to `max_tokens`, special tokens included.
    """

    mode: Mode
    normalise: bool
    max_tokens: int


def read_pooling(directory: Path, *, max_positions: int, default: Mode = "mean") -> Pooling:
    """Read the recipe of a sentence encoder; without `modules.json` it is the `default`, plain.

    `max_positions` is the longest text the model itself can take.

    Raises:
        UnsupportedModelError: a module or a mode that is not known here.
    """
    max_tokens = _read_max_tokens(directory / "sentence_bert_config.json", max_positions)
    mode, normalise = default, False
    for kind, folder in read_modules(directory):
        if kind == "Pooling":
            mode = _read_mode(folder / "config.json")
        elif kind == "Normalize":
            normalise = True
        elif kind != "Transformer":
            raise UnsupportedModelError(
                f"{directory / 'modules.json'} asks for a module of type {kind!r}; supported are "
                "Transformer, Pooling and Normalize"
            )
    return Pooling(mode, normalise, max_tokens)


def pool(
    hidden: NDArray[np.float32], attention_mask: NDArray[np.int64], pooling: Pooling
) -> NDArray[np.float32]:
    """Pool `hidden` [B, T, H] over the tokens where `attention_mask` [B, T] is 1, to [B, H]."""
    if pooling.mode == "cls":
        vectors = hidden[:, 0, :]
    elif pooling.mode == "lasttoken":
        last = np.maximum(attention_mask.sum(axis=1) - 1, 0)
        vectors = hidden[np.arange(len(hidden)), last]
    else:
        weights = attention_mask[:, :, None].astype(np.float32)
        vectors = (hidden * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    return normalised(vectors) if pooling.normalise else np.ascontiguousarray(vectors)


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide each row by its L2 norm; zeros stay zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def _read_mode(path: Path) -> Mode:
    fields = Fields.read(path)
    if fields.has("pooling_mode"):
        value = fields.values["pooling_mode"]
        modes = list(value) if isinstance(value, list) else [value]
    else:
        modes = [mode for flag, mode in _FLAGS.items() if fields.flag(flag, False)] or ["mean"]
    for mode in SUPPORTED_MODES:
        if modes == [mode]:
            return mode
    raise UnsupportedModelError(
        f"{path} asks for pooling {' + '.join(map(str, modes))}; supported is one of "
        f"{', '.join(SUPPORTED_MODES)}"
    )


def _read_max_tokens(path: Path, max_positions: int) -> int:
    if not path.is_file():
        return max_positions
    return min(Fields.read(path).integer("max_seq_length", max_positions), max_positions)
