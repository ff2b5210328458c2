"""The weights of a model directory, read tensor by tensor.

`CheckpointWeights` is the weight source of the compiler: `names`, `read`, `release`. Imports no
torch. Tensors are views into memory maps, so only what is being packed is resident.

Names are those of the checkpoint, with two additions. The experts of a mixture are stored one
tensor each, `P.experts.0.Q.weight`, `P.experts.1.Q.weight`, ...; here they are one stacked tensor
`P.experts.Q.weight` of shape [experts, ...]. A `prefix` that the names of an encoder carry
in some checkpoints ("bert.") is left out, and one that a decoder without its last layer lacks
("model.") is put in front. Those of vision-language models go by one name, see `checkpoint_names`.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from banyan.foundation.errors import ModelError
from banyan.models.json_fields import Fields
from banyan.models.safetensors_file import SafetensorsFile, TensorEntry

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_EXPERT = re.compile(r"^(?P<block>.+\.experts)\.(?P<number>\d+)\.(?P<rest>.+)$")
_MAX_NAMES_IN_ERROR = 5


@dataclass(frozen=True, slots=True)
class _Stored:
    """One tensor in one file, under the name it has there."""

    file: SafetensorsFile
    key: str

    @property
    def entry(self) -> TensorEntry:
        return self.file.entries[self.key]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape

    def read(self) -> np.ndarray[Any, np.dtype[Any]]:
        return self.file.read(self.key)

    def release(self) -> None:
        self.file.release(self.key)


class CheckpointWeights:
    """All tensors of a directory with one or several safetensors files."""

    def __init__(
        self,
        directory: Path,
        *,
        prefix: str = "",
        lacking: str = "",
        renamed: Callable[[str], str] = str,
    ) -> None:
        """Open and validate every file; nothing but the headers is read.

        `prefix` is left out of names that have it; `lacking` is put in front of all names when
        none has it; `renamed` then gives the name here.

        Raises:
            ModelError: no weights, a missing or truncated shard, or a damaged header.
        """
        self._directory = directory
        files = _open_files(directory)
        added = "" if any(key.startswith(lacking) for key in files) else lacking
        self._tensors = {
            renamed(added + key.removeprefix(prefix)): _Stored(file, key)
            for key, file in files.items()
        }
        self._stacks = _find_stacks(self._tensors)
        single = (name for name in self._tensors if not _EXPERT.match(name))
        self._names = frozenset((*single, *self._stacks))

    @property
    def directory(self) -> Path:
        """Where the files lie."""
        return self._directory

    def names(self) -> Collection[str]:
        """Give the names that `require` accepts; experts appear as stacks only."""
        return self._names

    def shape(self, name: str) -> tuple[int, ...]:
        """Give the shape of a tensor or a stack without reading it."""
        if members := self._stacks.get(name):
            return (len(members), *self._find(members[0]).shape)
        return self._find(name).shape

    def read(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """Give a read-only view of a tensor; a stack of experts is copied together."""
        if members := self._stacks.get(name):
            return self._read_stack(name, members)
        return self._find(name).read()

    def release(self, name: str) -> None:
        """Drop the pages of a tensor, by either name; views stay valid and are read again."""
        if name not in self._stacks:
            self._find(name).release()

    def keys(self) -> Mapping[str, str]:
        """Every stored tensor, experts one by one: the name here to the name in the files."""
        return {name: stored.key for name, stored in self._tensors.items()}

    def stored(self, name: str) -> TensorEntry | None:
        """Tell how a tensor lies in its file, or None; experts go by the names they have there."""
        found = self._tensors.get(name)
        return None if found is None else found.entry

    def read_stored(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """Give a read-only view of a tensor of any element type, under its name in the file."""
        stored = self._find(name)
        return stored.file.read_raw(stored.key)

    def require(self, expected: Mapping[str, Sequence[int]]) -> None:
        """Check that every expected tensor is there with its shape.

        Raises:
            ModelError: names what is missing, or the first shape that differs.
        """
        require_tensors(self, expected)

    def _find(self, name: str) -> _Stored:
        stored = self._tensors.get(name)
        if stored is None:
            raise ModelError(f"{self._directory} holds no tensor named {name}")
        return stored

    def _read_stack(self, name: str, members: Sequence[str]) -> np.ndarray[Any, np.dtype[Any]]:
        first = self._find(members[0]).read()
        stack = np.empty((len(members), *first.shape), first.dtype)
        for index, member in enumerate(members):
            stored = self._find(member)
            expert = stored.read()
            if expert.shape != first.shape or expert.dtype != first.dtype:
                raise ModelError(
                    f"the experts of {name} in {self._directory} differ: expert {index} is "
                    f"{expert.dtype}{list(expert.shape)}, expert 0 is "
                    f"{first.dtype}{list(first.shape)}"
                )
            stack[index] = expert
            # One expert is resident at a time, beside the stack itself.
            stored.release()
        return stack


class Checked(Protocol):
    """What `require_tensors` looks at."""

    @property
    def directory(self) -> Path:
        """Where the files lie; for errors."""
        ...

    def names(self) -> Collection[str]:
        """Every tensor there is."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one of them."""
        ...


def require_tensors(weights: Checked, expected: Mapping[str, Sequence[int]]) -> None:
    """Check that every expected tensor is there with its shape.

    Raises:
        ModelError: names what is missing, or the first shape that differs.
    """
    names = weights.names()
    missing = [name for name in expected if name not in names]
    if missing:
        named = ", ".join(missing[:_MAX_NAMES_IN_ERROR])
        more = len(missing) - _MAX_NAMES_IN_ERROR
        raise ModelError(
            f"{weights.directory} lacks tensors that its configuration asks for: {named}"
            + (f" and {more} more" if more > 0 else "")
        )
    for name, shape in expected.items():
        if weights.shape(name) != tuple(shape):
            raise ModelError(
                f"tensor {name} in {weights.directory} has shape {list(weights.shape(name))}; "
                f"the configuration asks for {list(shape)}"
            )


def _open_files(directory: Path) -> dict[str, SafetensorsFile]:
    """Map each tensor name to its open file."""
    if (directory / _INDEX).exists():
        return _open_shards(directory)
    if (directory / _SINGLE).exists():
        file = SafetensorsFile(directory / _SINGLE)
        return dict.fromkeys(file.names(), file)
    other = sorted(path.name for path in directory.glob("*.bin"))
    found = f" (found {', '.join(other)}, a format that is not read)" if other else ""
    raise ModelError(f"{directory} holds no {_SINGLE} and no {_INDEX}{found}")


def _open_shards(directory: Path) -> dict[str, SafetensorsFile]:
    weight_map = Fields.read(directory / _INDEX).nested("weight_map")
    if weight_map is None:
        raise ModelError(f"{directory / _INDEX} lacks the field 'weight_map'")
    owners = {name: weight_map.text(name) for name in weight_map.values}
    for shard in owners.values():
        if Path(shard).name != shard:
            raise ModelError(f"{directory / _INDEX} points outside its directory: {shard!r}")
    shards = {shard: SafetensorsFile(directory / shard) for shard in sorted(set(owners.values()))}
    for name, shard in owners.items():
        if name not in shards[shard].entries:
            raise ModelError(f"{directory / shard} lacks the tensor {name} that {_INDEX} promises")
    return {name: shards[shard] for name, shard in owners.items()}


def _find_stacks(names: Collection[str]) -> dict[str, list[str]]:
    """Map the name of each stack to its members in order."""
    members: dict[str, dict[int, str]] = {}
    for name in names:
        if match := _EXPERT.match(name):
            stack = f"{match['block']}.{match['rest']}"
            members.setdefault(stack, {})[int(match["number"])] = name
    for stack, numbered in members.items():
        absent = [number for number in range(len(numbered)) if number not in numbered]
        if absent:
            raise ModelError(f"the checkpoint lacks expert {absent[0]} of {stack}")
    return {
        stack: [numbered[i] for i in range(len(numbered))] for stack, numbered in members.items()
    }
