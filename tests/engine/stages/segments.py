"""Segments and a part that need no compiler."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from banyan.compiler.cutting.segments import Segment
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.types import DType, TensorType
from banyan.engine.stages.part import NumberedSegment
from banyan.foundation.errors import InputError, StageFailed


class Adding:
    """Gives under each name the sum of all it is given, in memory that the next run overwrites.

    Less than nothing is as wrong as NaN here.
    """

    def __init__(self, gives: Mapping[int, tuple[str, ...]]) -> None:
        self.place = "a"
        self.reports = ()
        self.is_closed = False
        self._memory = {
            number: {name: np.zeros(1, np.float32) for name in names}
            for number, names in gives.items()
        }

    def compute(
        self, number: int, arguments: Mapping[str, Any], values: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        for array in self._memory[number].values():
            array[0] = arguments["x"][0] + sum(value[0] for value in values.values())
        return self._memory[number]

    def check(self, number: int, results: Mapping[str, Any]) -> None:
        if any(array[0] < 0 or np.isnan(array[0]) for array in results.values()):
            raise StageFailed(f"segment {number} on a gave NaN", place="a")

    def load_weights(self, source: Any) -> None:
        raise InputError("weight 'w' is not among those given; add it")

    def read_state_parts(self, names: Collection[str], indices: Sequence[int]) -> Any:
        return {name: np.array([[index, index] for index in indices], np.float32) for name in names}

    def close(self) -> None:
        self.is_closed = True


def segment(
    number: int,
    place: str,
    received: Mapping[str, str],
    given: tuple[str, ...],
    sent: Mapping[str, tuple[str, ...]],
) -> NumberedSegment:
    builder = Builder()
    node = builder.input("x", TensorType((1,), DType.FLOAT32))
    graph = Graph("s", (node,), tuple(Output(name, node) for name in given))
    return NumberedSegment(number, Segment(place, graph, received), sent, f"segment {number}")


def step(value: float) -> dict[str, Any]:
    """Arguments."""
    return {"x": np.array([value], np.float32)}
