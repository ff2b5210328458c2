"""A PyTorch module that runs as a compiled program: what `banyan.compile` returns."""

from typing import Any, final

from banyan.compiler.capture.arrays import ModuleWeights, leaves, nest, to_array, to_tensor
from banyan.compiler.executable import Executable, of_role
from banyan.compiler.report import CompileReport
from banyan.devices.device import Device
from banyan.foundation.errors import InputError


@final
class CompiledModule:
    """Call it as the module it was made from; parameters were read when it was compiled."""

    def __init__(self, executable: Executable, device: Device, structure: Any) -> None:
        self._executable = executable
        self._device = device
        self._structure = structure
        self._arguments = of_role(executable.inputs, "argument")

    def __call__(self, *arguments: Any) -> Any:
        """Run on tensors or arrays; results are tensors, nested as the module nests them.

        Raises:
            InputError: the arguments do not fit those it was compiled for.
        """
        given = {f"argument.{i}": value for i, value in enumerate(leaves(arguments))}
        missing = [a.name for a in self._arguments if a.name not in given]
        if missing:
            raise InputError(
                f"{len(given)} arguments were given; {missing[0]} is needed, as in the example"
            )
        arrays = {a.name: to_array(given[a.name]) for a in self._arguments}
        results = self._executable.run(arrays)
        tensors = [to_tensor(results[output.name]) for output in self._executable.outputs]
        return nest(self._structure, tensors)

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
