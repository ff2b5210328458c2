"""What differs between the C-like languages that kernels are printed in.

The text of a kernel uses one small vocabulary (`index_t`, `minimum`, `banyan_exp`, `from_bf16`,
...) that each language's header defines: `headers/program.h` here, `prelude.cl` for OpenCL C. What
cannot be said with names is asked of a dialect: who runs the steps of a loop, and what orders them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.expressions import STORED


@dataclass(frozen=True, slots=True)
class Dialect:
    """One language, or one way to run kernels: here C++, where one thread runs a whole item.

    Attributes:
        is_shared: whether several work-items run each kernel item together and share its loops.
    """

    is_shared: bool = False

    def pragma(self, vector: str) -> list[str]:
        """Lines before the innermost loop of a nest; `vector` is what `omp simd` would take."""
        return [f"#pragma omp simd {vector}".rstrip()]

    def loop(self, name: str, start: str, end: str, *, shared: bool) -> str:
        """The opening line of a loop; work-items share the steps of a `shared` one."""
        return f"for (index_t {name} = {start}; {name} < {end}; ++{name}) {{"

    def once(self) -> str:
        """The opening line of a block that one work-item runs."""
        return "{"

    def joined(self, total: str, kind: str, dtype: DType) -> list[str]:
        """Lines after which `total` combines what each work-item found."""
        return []

    def after(self, lines: Sequence[str]) -> list[str]:
        """Lines after a nest: what later nests read must be there by then."""
        return []

    def scratch(self, name: str, dtype: DType, offset: int) -> str:
        """The declaration of a tile `offset` bytes into the scratch memory.

        Booleans lie there as bytes: g++ 12 makes no vectors of loops that load `bool`.
        """
        kind = STORED[DType.UINT8 if dtype is DType.BOOL else dtype]
        return f"{kind}* const {name} = reinterpret_cast<{kind}*>(scratch + {offset});"


CPP = Dialect()
