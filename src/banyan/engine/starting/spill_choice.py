"""From the options of an engine to where its evicted blocks go, if anywhere."""

from pathlib import Path

from banyan.compiler.executable import Executable
from banyan.engine.cache.block_memory import ExecutableBlocks
from banyan.engine.cache.block_spill import BlockSpill
from banyan.engine.cache.block_store import BlockStore, DiskBlockStore, MemoryBlockStore
from banyan.engine.options import EngineLimits, EngineOptions

_GIGABYTE = 10**9


def choose_spill(
    options: EngineOptions, executable: Executable, limits: EngineLimits, *, model_key: str
) -> BlockSpill | None:
    """Build what the options ask for: memory, a directory, or memory that drops into it.

    Args:
        options: with sizes and directory.
        executable: the step of the model, its states allocated.
        limits: with the number of its blocks.
        model_key: names the model and the format of its cache.

    Raises:
        InputError: the directory cannot be used.
    """
    store: BlockStore | None = None
    if options.prefix_store is not None:
        capacity = int(options.prefix_store_gb * _GIGABYTE)
        store = DiskBlockStore(Path(options.prefix_store), capacity, model_key=model_key)
    if options.swap_space_gb:
        store = MemoryBlockStore(int(options.swap_space_gb * _GIGABYTE), store)
    if store is None:
        return None
    memory = ExecutableBlocks(executable, limits.num_blocks, size_symbol="num_blocks")
    return BlockSpill(memory, store)
