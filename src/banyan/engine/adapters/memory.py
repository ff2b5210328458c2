"""The slots of a compiled decoder: adapters become what its states hold.

Owns the way from files to the states of the step; who sits where is decided in `slots`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.executable import Executable
from banyan.models.adapters.graph import AdapterRoom
from banyan.models.adapters.reading import Adapter, read_adapter


@dataclass(frozen=True, slots=True)
class ReadAdapter:
    """An adapter in memory.

    Attributes:
        weights: what `AdapterMemory.write` takes.
        digest: equal for equal weights only, in every process.
        base_model: the name of its base, as its file has it; may be empty.
    """

    weights: Any
    digest: str
    base_model: str


class AdapterMemory(Protocol):
    """Where adapters are read to and written to; `DecoderAdapterMemory` is one, a fake another."""

    @property
    def num_slots(self) -> int:
        """How many adapters one step can use."""
        ...

    def read(self, path: str) -> ReadAdapter:
        """Read and check an adapter; changes nothing, and may run in another thread.

        Raises:
            ModelError: it cannot be used with this model.
        """
        ...

    def write(self, slot: int, weights: Any) -> None:
        """Put the weights of an adapter that was read into a slot; never while a step runs."""
        ...


@dataclass(frozen=True, slots=True)
class _Weights:
    """An adapter in the layout of the states, and which kinds of layers it changes."""

    factors: Mapping[str, NDArray[Any]]
    changed: frozenset[str]


@dataclass(frozen=True, slots=True)
class DecoderAdapterMemory:
    """The states of a compiled step; an `AdapterMemory`."""

    room: AdapterRoom
    executable: Executable

    @property
    def num_slots(self) -> int:
        """How many adapters one step can use."""
        return self.room.slots

    def read(self, path: str) -> ReadAdapter:
        """Read an adapter from its directory."""
        return self.lay_out(read_adapter(Path(path), self.room.model, max_rank=self.room.max_rank))

    def lay_out(self, adapter: Adapter) -> ReadAdapter:
        """Bring an adapter into the layout of the states."""
        weights = _Weights(self.room.factors(adapter), self.room.changed_groups(adapter))
        return ReadAdapter(weights, _digest(weights.factors), adapter.base_model)

    def write(self, slot: int, weights: Any) -> None:
        """Copy the factors of an adapter into the states."""
        states = {**weights.factors, **self.room.places(weights.changed, slot)}
        for name, array in states.items():
            self.executable.write_state_part(name, slot, array)


def _digest(factors: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(factors.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.view(np.uint8).data)
    return digest.hexdigest()
