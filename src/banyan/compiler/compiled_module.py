"""A PyTorch module that runs as a compiled program: what `banyan.compile` returns."""

import threading
from collections.abc import Sequence
from typing import Any, final

from banyan.compiler.capture.arrays import (
    ModuleWeights,
    Nesting,
    is_same_constant,
    leaves,
    to_array,
    to_tensor,
)
from banyan.compiler.executable import Executable, of_role
from banyan.compiler.report import CompileReport
from banyan.devices.device import Device
from banyan.foundation.errors import InputError


@final
class CompiledModule:
    """Call it as the module it was made from; parameters were read when it was compiled.

    Calls from several Python threads take turns, because they share the memory of the program.
    """

    def __init__(
        self,
        executable: Executable,
        device: Device,
        nesting: Nesting,
        example: Sequence[Any],
        keywords: Sequence[str] = (),
    ) -> None:
        """Wrap a filled program; `example` holds the leaves of the arguments it was traced on.

        `keywords` are the names of the last of these arguments, in order.
        """
        self._keywords = tuple(keywords)
        self._executable = executable
        self._device = device
        self._nesting = nesting
        self._example = tuple(example)
        self._arguments = of_role(executable.inputs, "argument")
        self._turn = threading.Lock()

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Run on tensors or arrays; results are tensors, nested as the module nests them.

        Raises:
            InputError: the arguments do not fit those it was compiled for.
        """
        if set(keywords) != set(self._keywords):
            raise InputError(
                f"called with the names {sorted(keywords)}, compiled for {sorted(self._keywords)}"
            )
        given = leaves((arguments, {name: keywords[name] for name in self._keywords}))
        self._check_fixed(given)
        named = {f"argument.{i}": value for i, value in enumerate(given)}
        arrays = {a.name: to_array(named[a.name]) for a in self._arguments}
        with self._turn:
            results = self._executable.run(arrays)
            tensors = [to_tensor(results[output.name]) for output in self._executable.outputs]
        return self._nesting.fill(tensors)

    def _check_fixed(self, given: Sequence[Any]) -> None:
        """Arguments that are no tensors became part of the program: they must be the same."""
        if len(given) != len(self._example):
            raise InputError(
                f"{len(given)} arguments were given; {len(self._example)} are needed, "
                "as in the example"
            )
        tensors = {argument.name for argument in self._arguments}
        for i, (value, traced) in enumerate(zip(given, self._example, strict=True)):
            if f"argument.{i}" not in tensors and not is_same_constant(value, traced):
                raise InputError(
                    f"argument {i} is {value!r}, but the module was compiled for {traced!r}; "
                    "compile it again for another value"
                )

    def report(self) -> CompileReport:
        """What compiling did: coverage, kernels, time."""
        return self._executable.report

    def close(self) -> None:
        """Stop the threads; the module cannot be called afterwards."""
        self._device.close()


def fill(executable: Executable, module: Any) -> None:
    """Give a program the parameters of a module, and its mutable buffers as first states."""
    weights = ModuleWeights(module)
    executable.load_weights(weights)
    executable.allocate_state({})
    for state in of_role(executable.inputs, "state"):
        executable.write_state(state.name, weights.read(state.name))
