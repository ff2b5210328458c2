"""What differs between the C-like languages that kernels are printed in.

The text of a kernel uses one small vocabulary (`index_t`, `minimum`, `banyan_exp`, `from_bf16`,
...) that each language's header defines: `headers/program.h` here, `prelude.cl` for OpenCL C. What
cannot be said with names is asked of a dialect: who runs the steps of a loop, and what orders them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.expressions import STORED


class Dialect(Protocol):
    """One language, or one way to run kernels."""

    @property
    def is_shared(self) -> bool:
        """Whether several work-items run each kernel item together and share its loops."""
        ...

    def pragma(self, vector: str) -> list[str]:
        """Lines before the innermost loop of a nest; `vector` is what `omp simd` would take."""
        ...

    def loop(self, name: str, start: str, end: str, *, shared: bool) -> str:
        """The opening line of a loop; work-items share the steps of a `shared` one."""
        ...

    def once(self) -> str:
        """The opening line of a block that one work-item runs."""
        ...

    def joined(self, total: str, kind: str, dtype: DType) -> list[str]:
        """Lines after which `total` combines what each work-item found."""
        ...

    def after(self, lines: Sequence[str]) -> list[str]:
        """Lines after a nest: what later nests read must be there by then."""
        ...

    def scratch(self, name: str, dtype: DType, offset: int) -> str:
        """The declaration of a tile `offset` bytes into the scratch memory."""
        ...


@dataclass(frozen=True, slots=True)
class CppDialect:
    """C++: one thread runs a kernel item from its first line to its last."""

    @property
    def is_shared(self) -> bool:
        """Never."""
        return False

    def pragma(self, vector: str) -> list[str]:
        """Ask the compiler for vector instructions."""
        return [f"#pragma omp simd {vector}".rstrip()]

    def loop(self, name: str, start: str, end: str, *, shared: bool) -> str:
        """A plain loop."""
        return f"for (index_t {name} = {start}; {name} < {end}; ++{name}) {{"

    def once(self) -> str:
        """A plain block."""
        return "{"

    def joined(self, total: str, kind: str, dtype: DType) -> list[str]:
        """Nothing: one thread found everything."""
        return []

    def after(self, lines: Sequence[str]) -> list[str]:
        """Nothing: text order is time order."""
        return []

    def scratch(self, name: str, dtype: DType, offset: int) -> str:
        """A pointer into the thread's scratch memory."""
        kind = STORED[dtype]
        return f"{kind}* const {name} = reinterpret_cast<{kind}*>(scratch + {offset});"


CPP = CppDialect()
