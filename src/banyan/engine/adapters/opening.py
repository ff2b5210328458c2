"""Make room for adapters in a decoder that is being loaded, and open those it starts with."""

from banyan.compiler.executable import Executable
from banyan.compiler.ir.types import DType
from banyan.engine.adapters.library import AdapterLibrary, load_named
from banyan.engine.adapters.memory import DecoderAdapterMemory
from banyan.engine.options import EngineOptions
from banyan.foundation.errors import InputError
from banyan.models.adapters.graph import AdapterRoom
from banyan.models.configuration import ModelConfiguration

_DTYPES = {"float32": DType.FLOAT32, "bfloat16": DType.BFLOAT16}


def adapter_room(
    options: EngineOptions, model: ModelConfiguration, dtype: str, *, free_bytes: int
) -> AdapterRoom | None:
    """The room that the options ask for in a decoder that computes in `dtype`; None for none.

    Raises:
        InputError: it does not fit into memory, or adapters cannot be stored as they should.
    """
    if not options.has_adapters:
        return None
    is_rounded = _is_rounded(options, dtype)
    room = AdapterRoom(model, options.max_loras, options.max_lora_rank, _DTYPES[dtype], is_rounded)
    if room.num_bytes > free_bytes:
        raise InputError(
            f"max_loras={room.slots} with max_lora_rank={room.max_rank} takes "
            f"{room.num_bytes / 1e9:.2f} GB, but {free_bytes / 1e9:.2f} GB can be had; lower one "
            "of them"
        )
    return room


def _is_rounded(options: EngineOptions, dtype: str) -> bool:
    if options.lora_dtype == "int8" and dtype != "bfloat16":
        raise InputError(
            f"lora_dtype='int8' needs a model that computes in bfloat16, and this one computes in "
            f"{dtype}; leave lora_dtype at 'auto' or set dtype='bfloat16'"
        )
    wants = options.lora_dtype == "auto" and options.quantization is not None
    return dtype == "bfloat16" and (wants or options.lora_dtype == "int8")


def open_library(
    options: EngineOptions, room: AdapterRoom | None, executable: Executable
) -> AdapterLibrary | None:
    """The adapters of an engine whose states have memory; None for a model without room.

    Raises:
        InputError: an adapter of `lora_modules` cannot be used.
    """
    if room is None:
        return None
    memory = DecoderAdapterMemory(room, executable)
    library = AdapterLibrary(memory, max_adapters=options.max_cpu_loras)
    load_named(library, options.lora_modules)
    return library
