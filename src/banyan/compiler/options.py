"""How to compile: what the front door takes and every target reads."""

from dataclasses import dataclass
from pathlib import Path

from banyan.compiler.tiling.options import LinearBlock, LinearShape


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """How to compile.

    Attributes:
        cache_directory: where programs are kept; see `foundation.settings`.
        compiler_command: the C++ compiler; None takes the first one found.
        instruction_set: vector instructions to use; None takes the best of this machine.
        optimise: False builds faster and runs slower, for tests.
        use_cache: False compiles even what is kept.
        tuned: blocks of single linear layers; None takes the known ones, see `schedules`.
    """

    cache_directory: Path
    compiler_command: str | None = None
    instruction_set: str | None = None
    optimise: bool = True
    use_cache: bool = True
    tuned: tuple[tuple[LinearShape, LinearBlock], ...] | None = None
