"""Entries of a program's states in the form that every program of a model understands.

A KV-cache block looks the same to every target: it has the shape that the graph gives it. Where
tensors are cut between devices each rank has some of its heads, and a whole block is all of them
side by side. So a block that was computed under one plan, on one chip, can be read under another.
Called by `prompts_apart`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from banyan.compiler.executable import Argument, Array, Executable, of_role

_PART = re.compile(r"\.part\d+of\d+$")


@dataclass(frozen=True, slots=True)
class _Parts:
    """How a program keeps a state.

    Attributes:
        names: of the states that it is made of, in the order of the ranks.
        heads: how many each has; empty where each has all of them.
    """

    names: tuple[str, ...]
    heads: tuple[int, ...]


class PortableStates:
    """The states of a program under the names of the whole model."""

    def __init__(self, whole: Sequence[Argument], program: Executable) -> None:
        """Find the parts of every state.

        Args:
            whole: the inputs of the uncut model.
            program: computes it, cut or not.
        """
        self._program = program
        found: dict[str, list[Argument]] = {}
        for argument in of_role(program.inputs, "state"):
            found.setdefault(_PART.sub("", argument.name), []).append(argument)
        self._parts = {state.name: _parts_of(state, found) for state in of_role(whole, "state")}

    def read(self, names: Sequence[str], indices: Sequence[int]) -> dict[str, Array]:
        """Copy the same entries of several states, [len(indices), ...] each."""
        parts = {name: self._parts[name] for name in names}
        asked = [n for p in parts.values() for n in (p.names if p.heads else p.names[:1])]
        found = self._program.read_state_parts(asked, indices)
        return {
            name: np.concatenate([found[n] for n in p.names], axis=1)
            if p.heads
            else found[p.names[0]]
            for name, p in parts.items()
        }

    def write(self, values: Mapping[str, Array], indices: Sequence[int]) -> None:
        """Replace the same entries of several states."""
        told = {
            part: np.ascontiguousarray(value[:, rows])
            for name, value in values.items()
            for part, rows in self._shares(name)
        }
        self._program.write_state_parts(told, indices)

    def write_all(self, name: str, value: Array) -> None:
        """Replace a state."""
        for part, rows in self._shares(name):
            self._program.write_state(part, np.ascontiguousarray(value[:, rows]))

    def _shares(self, name: str) -> list[tuple[str, slice]]:
        """Each part of a state, and which heads of the whole it has."""
        parts = self._parts[name]
        if not parts.heads:
            return [(part, slice(None)) for part in parts.names]
        ends = np.cumsum(parts.heads).tolist()
        starts = [0, *ends[:-1]]
        shares = map(slice, starts, ends)
        return list(zip(parts.names, shares, strict=True))


def _parts_of(state: Argument, found: Mapping[str, Sequence[Argument]]) -> _Parts:
    parts = found[state.name]
    heads = tuple(int(str(part.type.shape[1])) for part in parts)
    is_cut = part_is_cut(state, parts[0])
    return _Parts(tuple(part.name for part in parts), heads if is_cut else ())


def part_is_cut(state: Argument, part: Argument) -> bool:
    """Whether a part has fewer heads than its state."""
    return part.type.shape != state.type.shape
