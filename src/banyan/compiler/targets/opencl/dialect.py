"""OpenCL C: the work-items of one group run a kernel item together.

They share the steps of each nest of loops and wait for each other after nests that touch scratch
memory. Scalars are computed by every work-item alike, so every branch and every loop around a
barrier goes the same way for all of them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.dialect import Dialect
from banyan.compiler.targets.cpp.expressions import STORED, computed_type
from banyan.compiler.targets.cpp.reductions import combine

BARRIER = "barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);"
FOUND = "found"
"""Local memory through which work-items tell each other their part of a reduction."""

_TILE = re.compile(r"\bt\d+\b")


@dataclass(frozen=True, slots=True)
class OpenClDialect(Dialect):
    """The `Dialect` of work-groups."""

    is_shared: bool = True

    def pragma(self, vector: str) -> list[str]:
        """Nothing: the driver's compiler vectorises over work-items."""
        return []

    def loop(self, name: str, start: str, end: str, *, shared: bool) -> str:
        """A plain loop, or one that each work-item enters at its own step."""
        if not shared:
            return Dialect.loop(self, name, start, end, shared=False)
        first = "LANE" if start == "0" else f"{start} + LANE"
        return f"for (index_t {name} = {first}; {name} < {end}; {name} += LANES) {{"

    def once(self) -> str:
        """Only the first work-item."""
        return "if (LANE == 0) {"

    def joined(self, total: str, kind: str, dtype: DType) -> list[str]:
        """Each work-item shows what it found, then all of them combine everything."""
        place = f"((__local {computed_type(dtype)}*){FOUND})"
        return [
            f"{place}[LANE] = {total};",
            BARRIER,
            f"{total} = {place}[0];",
            "for (int lane = 1; lane < LANES; ++lane) {",
            f"{total} = {combine(kind, dtype, total, f'{place}[lane]')};",
            "}",
            BARRIER,
        ]

    def after(self, lines: Sequence[str]) -> list[str]:
        """A barrier where scratch memory was written, or read that will be written again."""
        return [BARRIER] if any(_TILE.search(line) for line in lines) else []

    def scratch(self, name: str, dtype: DType, offset: int) -> str:
        """A pointer into the group's scratch memory, wherever that lies for this kernel."""
        kind = f"SCRATCH {STORED[dtype]}*"
        return f"{kind} const {name} = ({kind})(scratch + {offset});"


OPENCL = OpenClDialect()
