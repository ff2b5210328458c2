"""The C++ target: one shared object per graph, for one level of vector instructions."""

from dataclasses import dataclass, field
from pathlib import Path

from banyan.compiler.ir.graph import Graph
from banyan.compiler.options import CompileOptions
from banyan.compiler.schedules.known import known_blocks
from banyan.compiler.targets.cpp.packing import build_packer
from banyan.compiler.targets.cpp.registry import KERNEL_DIRECTORY, rows_per_item
from banyan.compiler.targets.memory import Placement
from banyan.compiler.targets.target import ProgramText
from banyan.compiler.tiling.options import LinearBlock, LinearShape, TileOptions
from banyan.devices.device import Device, LoadedProgram, Program
from banyan.devices.instruction_sets import InstructionSet, detect_instruction_sets
from banyan.devices.native import (
    OPTIMISED_FLAGS,
    Compiler,
    Missing,
    build_shared_object,
    find_compiler,
)
from banyan.devices.thread_pool import NATIVE_DIRECTORY
from banyan.foundation.errors import CompilerMissing, InputError

_PACKER_BUFFERS = 2
_PACKER_SYMBOLS = 5
QUANTIZED_FORMATS = frozenset({"int8", "int4", "fp8"})
HEADER_DIRECTORY = Path(__file__).parent / "headers"


@dataclass(frozen=True, slots=True)
class CppTarget:
    """Prints and builds C++ for `level`; a `Target`."""

    level: InstructionSet
    device: Device
    options: CompileOptions
    tuned: tuple[tuple[LinearShape, LinearBlock], ...] = ()
    name: str = field(default="cpp", init=False)

    @property
    def detail(self) -> str:
        """The vector instructions."""
        return self.level.name

    @property
    def settings(self) -> str:
        """The vector instructions, the compiler's flags, and the blocks that were tuned."""
        return f"{self.level.name} {' '.join(self._flags())} {self.tuned}"

    @property
    def tiling(self) -> TileOptions:
        """Blocks of rows as the micro-kernels of this level like them."""
        return TileOptions(
            row_block=rows_per_item(self.level.name),
            quantized=QUANTIZED_FORMATS,
            attention_blocks=16,
            tuned=self.tuned,
        )

    def emit(self, graph: Graph, placement: Placement) -> ProgramText:
        """Print a lowered graph whose values are placed."""
        # Imported here because a warm start prints nothing.
        from banyan.compiler.targets.cpp.program import print_program  # noqa: PLC0415

        return print_program(graph, placement, self.level.name)

    def build(self, text: ProgramText) -> Path:
        """Build the shared object, or find it built."""
        found = find_compiler(self.options.compiler_command)
        if isinstance(found, Missing):
            raise CompilerMissing(found.reason)
        return build_shared_object(
            text.source,
            flags=self._flags(),
            cache_directory=self.options.cache_directory,
            name="program",
            include_directories=(HEADER_DIRECTORY, KERNEL_DIRECTORY, NATIVE_DIRECTORY),
            compiler=found,
        ).path

    def open_packer(self) -> LoadedProgram:
        """Build the packing program for this level and load it."""
        found = find_compiler(self.options.compiler_command)
        compiler: Compiler | None = None if isinstance(found, Missing) else found
        built = build_packer(self.level, self.options.cache_directory, compiler)
        program = Program(
            name="packing",
            target=self.name,
            image=built.path,
            entry="banyan_run",
            num_buffers=_PACKER_BUFFERS,
            num_symbols=_PACKER_SYMBOLS,
            scratch_bytes_per_thread=0,
        )
        return self.device.load(program)

    def _flags(self) -> tuple[str, ...]:
        flags: tuple[str, ...] = OPTIMISED_FLAGS
        if not self.options.optimise:
            flags = tuple("-O1" if flag == "-O3" else flag for flag in flags)
        return (*flags, *self.level.compiler_flags)


def open_target(device: Device, options: CompileOptions) -> CppTarget:
    """The C++ target for the CPUs of this machine.

    Raises:
        InputError: an unknown instruction set.
    """
    level = _instruction_set(options)
    kept = known_blocks(level.name, options.cache_directory)
    tuned = kept if options.tuned is None else options.tuned
    return CppTarget(level, device, options, tuned)


def _instruction_set(options: CompileOptions) -> InstructionSet:
    available = detect_instruction_sets()
    if options.instruction_set is None:
        return available[0]
    for level in available:
        if level.name == options.instruction_set:
            return level
    names = ", ".join(level.name for level in available)
    raise InputError(
        f"instruction set {options.instruction_set!r} is not available here; choose from {names}"
    )
