"""Packed weights kept from the last start, for a program that is about to get its weights."""

from dataclasses import dataclass

from banyan.compiler.cache import compiler_digest
from banyan.compiler.compiled import CompiledProgram
from banyan.compiler.executable import Executable
from banyan.compiler.packed_cache import PackedCache, packed_key
from banyan.engine.batch_generation import Progress
from banyan.foundation.settings import Settings

SMALLEST_BYTES = 32 * 2**20
"""Weights that are smaller are packed as fast as they are found."""

_FOLDER = "packed"


@dataclass(frozen=True, slots=True)
class WarmStart:
    """Finds and keeps the weights named `key`; for programs whose weights lie on the host."""

    settings: Settings
    key: str

    def find(self, executable: Executable, say: Progress) -> bool:
        """Give a program the weights of an earlier start; false when there are none for it."""
        if not isinstance(executable, CompiledProgram):
            return False
        say("Opening packed weights", 0, 1)
        kept = self._cache().open(self._key_for(executable))
        return kept is not None and executable.adopt_packed(kept.pieces)

    def keep(self, executable: Executable, say: Progress) -> None:
        """Keep what a program has just packed, for the next start."""
        if not isinstance(executable, CompiledProgram):
            return
        say("Keeping packed weights", 0, 1)
        self._cache().keep(self._key_for(executable), executable.packed_weights())

    def _cache(self) -> PackedCache:
        return PackedCache(
            self.settings.cache_directory / _FOLDER,
            self.settings.packed_cache_bytes,
            SMALLEST_BYTES,
        )

    def _key_for(self, program: CompiledProgram) -> str:
        """Name the bytes that this program reads; whoever changes a layout changes the compiler."""
        manifest = program.manifest
        layout = repr([(i.argument.name, i.type, i.packing, i.behind) for i in manifest.inputs])
        return packed_key(self.key, compiler_digest(), manifest.image.name, layout)
