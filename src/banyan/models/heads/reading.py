"""Open a directory of heads that guess tokens for a decoder. Imports no torch.

Two published kinds are read, both from safetensors files beside a `config.json`:

- Medusa (Cai et al. 2024, arXiv:2401.10774): `medusa_num_heads` heads of `medusa_num_layers`
  residual blocks and a matrix. Head i names its blocks `{i}.{block}.linear` and its matrix
  `{i}.{medusa_num_layers}`; the file is `medusa_lm_head.safetensors`.
- EAGLE (Li et al. 2024, arXiv:2401.15077): decoder layers, usually one, behind a matrix `fc` over
  [embedding; hidden state]. Its first layer has no norm in front of the attention, and embedding
  and output matrix are those of the decoder, whatever copies the file holds.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.configuration import ModelConfiguration, read_decoder
from banyan.models.json_fields import Fields
from banyan.models.safetensors_file import SafetensorsFile
from banyan.models.weights import CheckpointWeights, require_tensors

OWN = "heads."
"""What the names of the heads' own weights begin with in their graphs."""

_MEDUSA_FILE = "medusa_lm_head.safetensors"
_USUAL_FILE = "model.safetensors"
_PICKLES = ("*.pt", "*.bin", "*.pth")


@dataclass(frozen=True, slots=True)
class MedusaHeads:
    """Head i guesses the token i + 2 places behind the one whose hidden state it reads.

    Attributes:
        num_heads, num_layers: how many, and residual blocks in each.
        hidden_size, vocab_size: of the decoder.
        has_bias: whether the blocks have one.
    """

    num_heads: int
    num_layers: int
    hidden_size: int
    vocab_size: int
    has_bias: bool


@dataclass(frozen=True, slots=True)
class EagleHead:
    """Goes on from a hidden state token by token, with a cache of its own.

    Attributes:
        layers: the configuration of its layers.
        has_bias: whether `fc` has one.
        tie_embeddings: whether the decoder's output matrix is its embedding.
    """

    layers: ModelConfiguration
    has_bias: bool
    tie_embeddings: bool


Heads = MedusaHeads | EagleHead


@dataclass(frozen=True, slots=True)
class HeadsDirectory:
    """An opened directory of heads."""

    path: Path
    heads: Heads
    file: SafetensorsFile

    @property
    def method(self) -> str:
        """How this way to guess is called."""
        return "medusa" if isinstance(self.heads, MedusaHeads) else "eagle"

    def open_weights(self, base: CheckpointWeights) -> "HeadWeights":
        """Join the heads' own weights and those they share with their decoder."""
        return HeadWeights(self.path, self.file, base)


def open_heads(directory: Path, base: ModelConfiguration) -> HeadsDirectory:
    """Open heads made for a decoder.

    Raises:
        UnsupportedModelError: a kind of head that is not known here, or weights as a pickle.
        ModelError: damaged, incomplete, or made for a decoder of other sizes.
    """
    fields = Fields.read(directory / "config.json")
    is_medusa = fields.has("medusa_num_heads")
    file = _open_file(directory, (_MEDUSA_FILE, _USUAL_FILE) if is_medusa else (_USUAL_FILE,))
    heads = _read_medusa(fields, file, base) if is_medusa else _read_eagle(fields, file, base)
    return HeadsDirectory(directory, heads, file)


class HeadWeights:
    """The weights of heads: their own, under names that begin with `OWN`, and their decoder's."""

    def __init__(self, directory: Path, file: SafetensorsFile, base: CheckpointWeights) -> None:
        self._directory = directory
        self._file = file
        self._base = base

    @property
    def directory(self) -> Path:
        """Where the heads' own file lies."""
        return self._directory

    def names(self) -> Collection[str]:
        """Every tensor of both."""
        return {*(OWN + name for name in self._file.names()), *self._base.names()}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        if name.startswith(OWN):
            return self._file.entries[name.removeprefix(OWN)].shape
        return self._base.shape(name)

    def read(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """A read-only view of a tensor."""
        if name.startswith(OWN):
            return self._file.read(name.removeprefix(OWN))
        return self._base.read(name)

    def release(self, name: str) -> None:
        """Drop the pages of a tensor."""
        if name.startswith(OWN):
            self._file.release(name.removeprefix(OWN))
        else:
            self._base.release(name)

    def require(self, expected: Mapping[str, Sequence[int]]) -> None:
        """Check that every expected tensor is there with its shape; raises `ModelError`."""
        require_tensors(self, expected)


def _open_file(directory: Path, names: Sequence[str]) -> SafetensorsFile:
    for name in names:
        if (directory / name).is_file():
            return SafetensorsFile(directory / name)
    pickles = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
    if pickles:
        raise UnsupportedModelError(
            f"the heads in {directory} are the pickle {pickles[0]}, which could run any code; "
            f"convert them to {names[0]}"
        )
    raise ModelError(f"{directory} holds no {' and no '.join(names)}; it is no directory of heads")


def _read_medusa(fields: Fields, file: SafetensorsFile, base: ModelConfiguration) -> MedusaHeads:
    return MedusaHeads(
        num_heads=fields.integer("medusa_num_heads"),
        num_layers=fields.integer("medusa_num_layers", 1),
        hidden_size=base.hidden_size,
        vocab_size=base.vocab_size,
        has_bias="0.0.linear.bias" in file.names(),
    )


def _read_eagle(fields: Fields, file: SafetensorsFile, base: ModelConfiguration) -> EagleHead:
    names = (fields.texts("architectures") or ("LlamaForCausalLM",))[0]
    if "d2t" in file.names() or "Eagle3" in names:
        raise UnsupportedModelError(
            f"{fields.origin} is an EAGLE-3 head, which reads three layers of its decoder; "
            "supported are EAGLE heads over the last one, and Medusa"
        )
    if "fc.weight" not in file.names():
        raise UnsupportedModelError(
            f"{fields.origin} is no head that is known here: it has neither medusa_num_heads nor a "
            "tensor fc.weight; supported are Medusa and EAGLE"
        )
    layers = read_decoder(fields, names.removeprefix("Eagle"))
    for name in ("hidden_size", "vocab_size"):
        if getattr(layers, name) != getattr(base, name):
            raise ModelError(
                f"{fields.origin}: {name} is {getattr(layers, name)}, but the decoder's is "
                f"{getattr(base, name)}; these heads are for another model"
            )
    has_bias = "fc.bias" in file.names()
    return EagleHead(layers, has_bias=has_bias, tie_embeddings=base.tie_embeddings)
