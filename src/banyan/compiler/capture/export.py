"""Capture: a PyTorch module becomes a `Graph`.

The module is traced by `torch.export`; operations that mean something to the compiler (linear,
attention, norms, activations, embedding) stay whole, the rest is decomposed by PyTorch's own
table, and each call is then rewritten by a rule of `aten.RULES`. A call without a rule becomes an
`extern` node.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from banyan.compiler.capture.calls import CallWriter
from banyan.compiler.capture.emitter import LARGEST_CONSTANT, Emitter, from_torch_dtype
from banyan.compiler.capture.refusals import cannot_trace
from banyan.compiler.capture.sizes import read_symbols
from banyan.compiler.ir.graph import Graph, Node, Output
from banyan.compiler.ir.types import TensorType
from banyan.foundation.errors import GraphError

KEPT_WHOLE = frozenset(
    "linear scaled_dot_product_attention silu gelu embedding rms_norm layer_norm index_select"
    " softmax log_softmax topk addmm".split()
)


@dataclass(frozen=True, slots=True)
class Names:
    """What the caller calls things.

    `arguments` and `outputs` follow the flattened order; empty means PyTorch's own names, and
    "output" or "output.0", "output.1", ... `states` maps an output to the input it replaces.
    """

    arguments: Sequence[str] = ()
    outputs: Sequence[str] = ()
    states: Mapping[str, str] = field(default_factory=dict)


def capture_module(
    module: torch.nn.Module,
    example_arguments: tuple[Any, ...],
    *,
    name: str,
    example_keywords: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    names: Names | None = None,
) -> Graph:
    """Trace `module` on example arguments (real, fake or meta tensors) into a graph.

    Parameters and buffers become inputs with role "weight", named as in the state dict; small
    constant buffers become `data` nodes.

    Args:
        example_keywords: arguments given by name; they follow the others in `names`.
        dynamic_shapes: as for `torch.export.export`; the `Dim` names become symbol names.

    Raises:
        GraphError: the module cannot be captured.
    """
    keywords = dict(example_keywords or {})
    program = _export(module, *_distinct((example_arguments, keywords)), shapes=dynamic_shapes)
    everything = (*example_arguments, *keywords.values())
    requests = _requests(everything, _ordered(dynamic_shapes, keywords))
    return _Translation(program, names or Names(), requests).graph(name)


def _distinct(arguments: Any) -> Any:
    """The arguments with a copy wherever a tensor is passed a second time.

    torch.export takes one tensor passed twice for a single argument.
    """
    seen: set[int] = set()

    def own(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and id(value) in seen:
            return value.clone()
        seen.add(id(value))
        return value

    return pytree.tree_map(own, arguments)


def _ordered(shapes: Any, keywords: Mapping[str, Any]) -> Any:
    """The dynamic shapes in the order of the arguments, those given by name last."""
    if not isinstance(shapes, Mapping):
        return shapes
    plain = [value for name, value in shapes.items() if name not in keywords]
    return (*plain, *(shapes[name] for name in keywords))


def _export(module: torch.nn.Module, arguments: Any, keywords: Any, *, shapes: Any) -> Any:
    table = torch.export.default_decompositions()
    for operation in list(table):
        if str(operation).split(".")[1] in KEPT_WHOLE:
            del table[operation]
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # torch 2.13 copies its own deprecated LeafSpec; nothing the caller could change.
            warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
            program = torch.export.export(
                module, arguments, keywords, dynamic_shapes=shapes, strict=False
            )
            return program.run_decompositions(table)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise cannot_trace(module, error) from error


def _requests(arguments: Any, shapes: Any) -> list[Any]:
    """The dynamic shape request of each flattened argument."""
    if isinstance(arguments, list | tuple):
        inner = shapes if shapes is not None else [None] * len(arguments)
        return [r for a, s in zip(arguments, inner, strict=True) for r in _requests(a, s)]
    if isinstance(arguments, Mapping):
        inner = shapes if shapes is not None else dict.fromkeys(arguments)
        return [r for key in arguments for r in _requests(arguments[key], inner[key])]
    return [shapes] if pytree.tree_leaves(arguments) else []


class _Translation:
    """One exported program on its way to a graph."""

    def __init__(self, program: Any, names: Names, requests: Sequence[Any]) -> None:
        self.program = program
        self.names = names
        self.inputs: list[Node] = []
        self.first_owner: dict[int, str] = {}
        self.placeholders = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
        self.users = [s for s in program.graph_signature.input_specs if _is_user(s)]
        fakes = [self.placeholders[spec.arg.name].meta["val"] for spec in self.users]
        pairs = zip(fakes, requests, strict=True)
        tensors = [(f, r) for f, r in pairs if isinstance(f, torch.Tensor)]
        sizes = read_symbols(
            [f for f, _ in tensors], [r for _, r in tensors], program.range_constraints
        )
        self.emit = Emitter(sizes)
        self.calls = CallWriter(self.emit)
        self.values = self.calls.values

    def graph(self, name: str) -> Graph:
        self._read_inputs()
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self.calls.write(node)
        (output,) = (n for n in self.program.graph.nodes if n.op == "output")
        outputs = self._outputs(output.args[0])
        return Graph(name, self._with_roles(outputs), outputs)

    def _read_inputs(self) -> None:
        given = list(self.names.arguments) or [spec.arg.name for spec in self.users]
        if len(given) != len(self.users):
            raise GraphError(f"{len(given)} argument names for {len(self.users)} arguments")
        argument_names = dict(zip((s.arg.name for s in self.users), given, strict=True))
        mutated = set(self.program.graph_signature.buffers_to_mutate.values())
        states = set(self.names.states.values())
        for spec in self.program.graph_signature.input_specs:
            node = self.placeholders[spec.arg.name]
            fake = node.meta["val"]
            if not isinstance(fake, torch.Tensor):
                self.values[node] = fake
            elif _is_user(spec):
                chosen = argument_names[spec.arg.name]
                role = "state" if chosen in states else "argument"
                self.values[node] = self._input(chosen, fake, role)
            elif spec.target in mutated:
                self.values[node] = self._input(spec.target, fake, "state")
            else:
                self.values[node] = self._weight_or_constant(spec, fake)

    def _input(self, name: str, fake: torch.Tensor, role: str) -> Node:
        kind = TensorType(self.emit.sizes.shape(fake.shape), from_torch_dtype(fake.dtype))
        node = self.emit.builder.input(name, kind, role)
        if node not in self.inputs:
            self.inputs.append(node)
        return node

    def _weight_or_constant(self, spec: Any, fake: torch.Tensor) -> Node:
        owner = {**self.program.state_dict, **self.program.constants}.get(spec.target)
        transient = spec.kind is InputKind.CONSTANT_TENSOR or spec.persistent is False
        if transient and owner is not None and _is_small_and_real(owner):
            return self.emit.data(owner)
        # A parameter that two modules share is one input, under the name that came first.
        name = spec.target if owner is None else self.first_owner.setdefault(id(owner), spec.target)
        return self._input(name, fake, "weight")

    def _outputs(self, results: Sequence[Any]) -> tuple[Output, ...]:
        specs = self.program.graph_signature.output_specs
        # Containers may hold None where a result could have been; it is no output.
        kept = [(s, r) for s, r in zip(specs, results, strict=True) if r is not None]
        count = sum(spec.kind is OutputKind.USER_OUTPUT for spec, _ in kept)
        default = ["output"] if count == 1 else [f"output.{i}" for i in range(count)]
        given = iter(list(self.names.outputs) or default)
        outputs = []
        for spec, result in kept:
            value = self.values[result] if isinstance(result, torch.fx.Node) else result
            if spec.kind is OutputKind.USER_OUTPUT:
                name = next(given)
                node = self._output_node(name, value)
                outputs.append(Output(name, node, self.names.states.get(name)))
            else:
                if spec.kind is not OutputKind.BUFFER_MUTATION:
                    raise GraphError(
                        f"the module changes its input {spec.target}; return it instead"
                    )
                outputs.append(Output(f"{spec.target}.updated", value, spec.target))
        return tuple(outputs)

    def _output_node(self, name: str, value: Any) -> Node:
        if not isinstance(value, Node):
            raise GraphError(
                f"output {name} is {type(value).__name__}; only tensors can be results"
            )
        return value

    def _with_roles(self, outputs: Sequence[Output]) -> tuple[Node, ...]:
        known = {str(node.attr("name")) for node in self.inputs}
        for output in outputs:
            if output.updates is not None and output.updates not in known:
                raise GraphError(
                    f"output {output.name} updates {output.updates}, which is no input"
                )
        return tuple(self.inputs)


def _is_user(spec: Any) -> bool:
    return bool(spec.kind is InputKind.USER_INPUT)


def _is_small_and_real(tensor: Any) -> bool:
    is_fake = isinstance(tensor, torch._subclasses.FakeTensor) or tensor.is_meta
    return not is_fake and tensor.numel() <= LARGEST_CONSTANT
