"""A device whose memory and launches go through PyTorch: every chip that has Triton has both.

Programs are Python modules with Triton kernels. Launches of one run are put on the current stream
one after the other; `synchronize` waits. On the host ("triton") Triton's own interpreter runs the
kernels, which proves them on a machine without a chip, very slowly.

Imports torch and triton when it is opened, not before.
"""

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from banyan.devices.device import Buffer, LoadedProgram, Program
from banyan.devices.launches import check_launch
from banyan.foundation.errors import CompilationFailed, EnvironmentProblem, InputError

INTERPRETER = "triton"
"""The name of the device that interprets."""

_TORCH_NAMES = {"int1": "bool"}


@final
class TorchBuffer:
    """Bytes of a tensor."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    @property
    def num_bytes(self) -> int:
        """How many bytes the caller asked for."""
        return int(self.tensor.numel())

    @property
    def is_on_host(self) -> bool:
        """Only copies reach it, also where it happens to lie on the host."""
        return False

    def array(self, dtype: np.dtype[Any], shape: Sequence[int]) -> NDArray[Any]:
        """Never: copy instead."""
        raise InputError("the host cannot address this memory; use copy_out")


@dataclass(frozen=True, slots=True)
class TorchProgram:
    """A loaded module: the function of the entry, and the constants on the device."""

    program: Program
    entry: Callable[[Any, Sequence[int]], None]
    constants: tuple[Any, ...]


@final
class TorchDevice:
    """One chip as PyTorch shows it: "cuda:0", "npu:0", ...; or "triton", the interpreter."""

    def __init__(self, name: str) -> None:
        """Open the chip.

        Raises:
            EnvironmentProblem: PyTorch or Triton is missing, or the chip is.
        """
        # Imported here: a second and a gigabyte that other devices must not cost.
        import torch  # noqa: PLC0415

        if importlib.util.find_spec("triton") is None:
            raise EnvironmentProblem(
                f"device {name!r} needs Triton; install it: pip install 'banyan-compute[triton]'"
            )
        if name == INTERPRETER:
            _start_interpreting()
        self._name = name
        self._torch = torch
        self._place = torch.device("cpu" if name == INTERPRETER else name)
        self._modules: dict[str, ModuleType] = {}
        try:
            torch.empty(1, device=self._place)
        except (RuntimeError, AssertionError) as error:
            first = (str(error).splitlines() or ["no reason given"])[0]
            raise EnvironmentProblem(f"device {name!r} cannot be used: {first}") from error

    @property
    def name(self) -> str:
        """The name it was opened by."""
        return self._name

    def allocate(self, num_bytes: int) -> TorchBuffer:
        """Give zeroed memory.

        Raises:
            InputError: `num_bytes` is below 0.
            EnvironmentProblem: the chip has no room.
        """
        if num_bytes < 0:
            raise InputError(f"cannot allocate {num_bytes} bytes; ask for 0 or more")
        try:
            memory = self._torch.zeros(num_bytes, dtype=self._torch.uint8, device=self._place)
        except RuntimeError as error:
            raise EnvironmentProblem(
                f"{self._name} has no {num_bytes} bytes free; use a smaller model, context or batch"
            ) from error
        return TorchBuffer(memory)

    def adopt(self, array: NDArray[Any]) -> TorchBuffer:
        """Copy an array to the chip."""
        buffer = TorchBuffer(
            self._torch.empty(max(array.nbytes, 1), dtype=self._torch.uint8, device=self._place)
        )
        self.copy_in(array, buffer)
        return buffer

    def copy_in(self, source: NDArray[Any], target: Buffer, offset: int = 0) -> None:
        """Copy a host array to `offset` bytes from the start of a buffer."""
        flat = np.ascontiguousarray(source).reshape(-1).view(np.uint8)
        _check_range(target, offset, flat.size)
        if flat.size:
            # PyTorch warns of arrays that may not be written, and this one never is.
            readable = flat if flat.flags.writeable else flat.copy()
            whole = _tensor(target)[offset : offset + flat.size]
            whole.copy_(self._torch.from_numpy(readable))

    def copy_out(self, source: Buffer, target: NDArray[Any], offset: int = 0) -> None:
        """Copy what lies `offset` bytes from the start of a buffer into a contiguous array."""
        flat = target.reshape(-1).view(np.uint8)
        _check_range(source, offset, flat.size)
        if flat.size:
            part = _tensor(source)[offset : offset + flat.size]
            self._torch.from_numpy(flat).copy_(part)

    def load(self, program: Program) -> TorchProgram:
        """Import the module; its kernels are compiled when they are first launched.

        Raises:
            CompilationFailed: the module cannot be imported.
        """
        module = self._module(program)
        entry = getattr(module, program.entry, None)
        if entry is None:
            raise CompilationFailed(f"{program.image} has no function {program.entry!r}")
        constants = tuple(self._constant(kind, values) for kind, values in module.DATA)
        return TorchProgram(program, entry, constants)

    def _module(self, program: Program) -> ModuleType:
        if program.image is None:
            raise CompilationFailed(
                f"program {program.name!r} of target {program.target!r} has no module; "
                f"{self._name} runs programs of target 'triton'"
            )
        path = str(program.image)
        if path not in self._modules:
            spec = importlib.util.spec_from_file_location(f"banyan_{program.image.stem}", path)
            if spec is None or spec.loader is None:
                raise CompilationFailed(f"{path} is no Python module")
            module = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
            except (OSError, SyntaxError, NameError, AttributeError) as error:
                raise CompilationFailed(f"{path} cannot be imported: {error}") from error
            self._modules[path] = module
        return self._modules[path]

    def _constant(self, kind: str, values: Sequence[Any]) -> Any:
        dtype = getattr(self._torch, _TORCH_NAMES.get(kind, kind))
        return self._torch.tensor(values or [0], dtype=dtype, device=self._place)

    def launch(
        self, loaded: LoadedProgram, buffers: Sequence[Buffer], symbols: Sequence[int]
    ) -> None:
        """Put every launch of the program on the stream."""
        check_launch(loaded.program, buffers, symbols)
        if not isinstance(loaded, TorchProgram):
            raise InputError(f"{self._name} runs programs that it loaded itself")
        run = _Run(self._torch, [_tensor(buffer) for buffer in buffers], loaded.constants)
        # Padding of blocks is computed too, and the interpreter does it in NumPy.
        with np.errstate(all="ignore"):
            loaded.entry(run, symbols)

    def synchronize(self) -> None:
        """Wait for the stream."""
        if self._place.type != "cpu":
            self._torch.accelerator.synchronize(self._place)

    def close(self) -> None:
        """Forget the modules; memory goes with the last buffer."""
        self._modules.clear()


@dataclass(frozen=True, slots=True)
class _Run:
    """What an entry asks while it runs."""

    torch: Any
    buffers: Sequence[Any]
    constants: Sequence[Any]
    types: Mapping[str, Any] = field(default_factory=dict)

    def at(self, buffer: int, offset: int) -> Any:
        """The memory from `offset` bytes on."""
        return self.buffers[buffer][offset:] if offset else self.buffers[buffer]

    def constant(self, number: int) -> Any:
        """A constant tensor."""
        return self.constants[number].view(self.torch.uint8)

    def copy(self, source: Any, target: Any, num_bytes: int) -> None:
        """Copy bytes."""
        target[:num_bytes].copy_(source[:num_bytes])

    def launch(
        self, kernel: Any, programs: int, hints: Mapping[str, Any], arguments: Sequence[Any]
    ) -> None:
        """Launch one kernel; its first arguments are memory."""
        if programs <= 0:
            return
        pointers = [
            self._typed(memory, kind) for memory, kind in zip(arguments, kernel.types, strict=False)
        ]
        kernel[(programs,)](*pointers, *arguments[len(pointers) :], **hints)

    def _typed(self, memory: Any, kind: str) -> Any:
        dtype = getattr(self.torch, _TORCH_NAMES.get(kind, kind))
        size = memory.numel() // dtype.itemsize * dtype.itemsize
        if size == 0:
            return self.torch.empty(1, dtype=dtype, device=memory.device)
        return memory[:size].view(dtype)


def _start_interpreting() -> None:
    """Triton decides whether it interprets when it is first imported.

    Raises:
        EnvironmentProblem: something imported it before.
    """
    os.environ.setdefault("TRITON_INTERPRET", "1")
    language = importlib.import_module("triton.language")
    if type(language.sum).__name__ != "InterpretedFunction":
        raise EnvironmentProblem(
            f"device {INTERPRETER!r} cannot interpret, because Triton was imported before it was "
            "opened; set TRITON_INTERPRET=1 before Python starts"
        )


def _check_range(buffer: Buffer, offset: int, num_bytes: int) -> None:
    if offset + num_bytes > buffer.num_bytes:
        raise InputError(
            f"{num_bytes} bytes at {offset} are beyond the {buffer.num_bytes} of the buffer"
        )


def _tensor(buffer: Buffer) -> Any:
    if not isinstance(buffer, TorchBuffer):
        raise InputError("this buffer belongs to another device")
    return buffer.tensor
