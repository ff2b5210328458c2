"""What a target promises: how to lower for it, its text, and something a device can load.

The front door (`compiler.compile`) knows targets by name only. A new one is a file with a class
like these two protocols describe, one line in the door's table, and a device that loads what
`build` leaves on disk.
"""

import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from banyan.compiler.ir.graph import Graph
from banyan.compiler.targets.memory import Placement
from banyan.compiler.tiling.options import TileOptions
from banyan.devices.device import LoadedProgram
from banyan.foundation.errors import StorageFull


@dataclass(frozen=True, slots=True)
class ProgramText:
    """The text of a whole program and what it needs to run.

    Attributes:
        source: what `build` turns into something that a device loads.
        entries: functions to call in order, one for each run of launches between calls of the
            framework.
        num_kernels: distinct kernels.
        num_launches: launches of one run.
        scratch_bytes: private memory of each thread, or of each group of work-items.
    """

    source: str
    entries: tuple[str, ...]
    num_kernels: int
    num_launches: int
    scratch_bytes: int


class Target(Protocol):
    """One kind of chip text, for one device, with the settings it is made with."""

    @property
    def name(self) -> str:
        """The name a person types."""

    @property
    def detail(self) -> str:
        """The instructions or the chip that the text is for, as reports show it."""

    @property
    def settings(self) -> str:
        """Everything but the graph that decides what a program looks like: part of its key."""

    @property
    def tiling(self) -> TileOptions:
        """How graphs are lowered for it."""

    def emit(self, graph: Graph, placement: Placement) -> ProgramText:
        """Print a lowered graph whose values are placed.

        Raises:
            CompilationFailed: an operation this target has no text for.
        """

    def build(self, text: ProgramText) -> Path:
        """Make what the device loads; it stays on disk and is found again by its content.

        Raises:
            CompilerMissing: the compiler it needs is not here.
            CompilationFailed: the text does not build.
        """

    def open_packer(self) -> LoadedProgram:
        """The program that packs weights; asked for only where `tiling.packing` is on.

        Raises:
            CompilerMissing: the compiler it needs is not here.
        """


def keep_text(text: str, directory: Path, name: str, suffix: str) -> Path:
    """Write a text where equal text is found again; whoever else writes it, it is whole or absent.

    Raises:
        StorageFull: it cannot be written.
    """
    content = text.encode()
    path = directory / "objects" / f"{name}-{hashlib.sha256(content).hexdigest()[:32]}{suffix}"
    unfinished = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError as error:
        raise StorageFull(
            f"cannot keep the program in {path.parent} ({error.strerror}); "
            "free space or set BANYAN_CACHE to another folder"
        ) from error
    return path
