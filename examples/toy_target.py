"""A new chip in under 150 lines: the toy chip, whose machine code is Python that calls NumPy.

A chip needs two things: a target that prints kernels as its text, and a device that runs the text.
Passes, tiling, memory placement, the cache and the engine above stay as they are.
"""

from pathlib import Path
from typing import Any

import numpy as np

from banyan.compiler.ir.placement import place
from banyan.compiler.targets.interpreter.access import load, store
from banyan.compiler.targets.memory import Launch, Memory
from banyan.compiler.targets.target import ProgramText
from banyan.compiler.tiling.options import TileOptions
from banyan.devices.host_memory import allocate_host_memory, copy_from_buffer, copy_into_buffer
from banyan.foundation.errors import CompilationFailed

# What the chip can do: one instruction for each operation, as text with its arguments.
INSTRUCTIONS = {
    **{op: f"np.{name}({{0}}, {{1}})" for op, name in (
        ("add", "add"), ("sub", "subtract"), ("mul", "multiply"), ("div", "divide"),
        ("min", "minimum"), ("max", "maximum"))},
    **{op: f"np.{op}({{0}})" for op in ("exp", "log", "sqrt", "tanh", "abs")},
    "rsqrt": "1 / np.sqrt({0})",
    "sigmoid": "1 / (1 + np.exp(-{0}))",
    "cast": "{0}",
    "constant": "np.asarray({value})",
    "size": "np.asarray({dim})",
    "reshape": "np.reshape({0}, ({shape}))",
    "expand": "np.broadcast_to({0}, ({shape}))",
    "permute": "np.transpose({0}, {order})",
    "reduce": "np.{kind}({0}, axis={axes})",
}  # fmt: skip


class ToyTarget:
    """Prints a lowered graph; the protocol is `banyan.compiler.targets.target.Target`."""

    name, detail, settings = "toy", "NumPy", "version 1"
    tiling = TileOptions(packing=False)

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def emit(self, graph: Any, placement: Any) -> ProgramText:
        symbols = [symbol.name for symbol in graph.symbols()]
        lines = ["def run(view, buffers, symbols):", f"  {_dims(symbols)}*slots, = symbols"]
        launches = [step for step in placement.steps if isinstance(step, Launch)]
        for launch in launches:
            for number, (pointer, at) in enumerate(
                zip(launch.kernel.pointers, launch.locations, strict=True)
            ):
                first = len(graph.inputs) if at.memory is Memory.OUTPUT else 0
                place_ = f"buffers[{first + at.index}], 0"
                if at.memory is Memory.ARENA:
                    place_ = f"buffers[-1], slots[{at.index}]"
                kind = f"{pointer.dtype.numpy.name!r}, ({_dims(pointer.shape)})"
                lines.append(f"  p{number} = view({place_}, {kind})")
            lines += _Kernel(launch.kernel).lines()
        kernels = {launch.kernel for launch in launches}
        return ProgramText("\n".join(lines) + "\n", ("run",), len(kernels), len(launches), 0)

    def build(self, text: Any) -> Path:
        path = self.directory / "program.py"
        path.write_text(text.source)
        return path

    def open_packer(self) -> Any:
        raise CompilationFailed("the toy chip reads weights as they are")


class _Kernel:
    """One kernel as loops over its grid, one line for each operation of its body."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.order = kernel, place(kernel.body)
        self.names = {pointer: f"p{i}" for i, pointer in enumerate(kernel.pointers)}

    def lines(self) -> list[str]:
        found, indent = [], "  "
        for parameter, size in zip(self.kernel.body.parameters, self.kernel.grid, strict=True):
            self.names[parameter] = f"g{len(self.names)}"
            found.append(f"{indent}for {self.names[parameter]} in range({size}):")
            indent += "  "
        return found + [indent + self.line(node) for node in self.order[self.kernel.body]]

    def line(self, node: Any) -> str:
        values = [self.names.get(arg, "") for arg in node.args]
        attrs = {key: value for key, value in node.attrs}
        if node.op == "bind":
            return f"{attrs['name']} = int({values[0]})"
        access = f"{attrs.get('index')}, ({_dims(attrs.get('sizes', ()))})"
        where = f"{', '.join(values[2 if node.op == 'store' else 1 :])},"
        if node.op == "store":
            return f"store({values[0]}, {values[1]}, ({where}), {access})"
        self.names[node] = f"v{len(self.names)}"
        if node.op == "load":
            where = ", ".join(f"np.asarray({value})" for value in values[1:])
            text = f"load({values[0]}, ({where},), {access})"
        elif node.op == "dot":
            right = f"np.swapaxes({values[1]}, -1, -2)" if attrs.get("transpose_b") else values[1]
            text = f"np.matmul({values[0]}, {right})"
        elif node.op in INSTRUCTIONS:
            shown = {k: _dims(v) if k == "shape" else v for k, v in attrs.items()}
            text = INSTRUCTIONS[node.op].format(*values, **shown)
        else:
            raise CompilationFailed(f"the toy chip has no instruction for {node.op!r}")
        return f"{self.names[node]} = np.asarray({text}).astype({node.dtype.numpy.name!r})"


def _dims(shape: Any) -> str:
    return "".join(f"{size}, " for size in shape)


class ToyDevice:
    """Runs the text; the protocol is `banyan.devices.device.Device`."""

    name = "toy"
    allocate = staticmethod(allocate_host_memory)

    def copy_in(self, source: Any, target: Any, offset: int = 0) -> None:
        copy_into_buffer(source, target, offset)

    def copy_out(self, source: Any, target: Any, offset: int = 0) -> None:
        copy_from_buffer(source, target, offset)

    def adopt(self, array: Any) -> Any:
        buffer = self.allocate(array.nbytes)
        self.copy_in(array, buffer)
        return buffer

    def load(self, program: Any) -> Any:
        names = {"np": np, "load": load, "store": store}
        exec(program.image.read_text(), names)
        return names[program.entry]

    def launch(self, loaded: Any, buffers: Any, symbols: Any) -> None:
        loaded(_view, buffers, symbols)

    def synchronize(self) -> None: ...

    def close(self) -> None: ...


def _view(buffer: Any, offset: int, dtype: str, shape: tuple[int, ...]) -> Any:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return buffer.array(np.dtype(np.uint8), (offset + size,))[offset:].view(dtype).reshape(shape)
