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

from banyan.compiler.capture.aten import RULES
from banyan.compiler.capture.emitter import Emitter, Results, from_torch_dtype
from banyan.compiler.capture.extern import write_extern
from banyan.compiler.capture.sizes import read_symbols
from banyan.compiler.ir.graph import Graph, Node, Output
from banyan.compiler.ir.types import TensorType
from banyan.foundation.errors import GraphError

LARGEST_CONSTANT = 4096
"""Constant buffers up to this many elements become part of the graph's text."""

KEPT_WHOLE = frozenset(
    "linear scaled_dot_product_attention silu gelu embedding rms_norm layer_norm index_select"
    " softmax log_softmax topk addmm".split()
)
IGNORED = frozenset(
    {
        "aten._assert_tensor_metadata.default",
        "aten._assert_scalar.default",
        "aten._assert_async.msg",
    }
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
    dynamic_shapes: Any = None,
    names: Names | None = None,
) -> Graph:
    """Trace `module` on example arguments (real, fake or meta tensors) into a graph.

    Parameters and buffers become inputs with role "weight", named as in the state dict; small
    constant buffers become `data` nodes.

    Args:
        dynamic_shapes: as for `torch.export.export`; the `Dim` names become symbol names.

    Raises:
        GraphError: the module cannot be captured.
    """
    program = _export(module, _distinct(example_arguments), dynamic_shapes)
    return _Translation(program, names or Names(), dynamic_shapes, example_arguments).graph(name)


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


def _export(module: torch.nn.Module, arguments: tuple[Any, ...], shapes: Any) -> Any:
    table = torch.export.default_decompositions()
    for operation in list(table):
        if str(operation).split(".")[1] in KEPT_WHOLE:
            del table[operation]
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # torch 2.13 copies its own deprecated LeafSpec; nothing the caller could change.
            warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
            program = torch.export.export(module, arguments, dynamic_shapes=shapes, strict=False)
            return program.run_decompositions(table)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2]) or repr(error)
        raise GraphError(f"torch.export cannot trace {type(module).__name__}: {reason}") from error


def _requests(arguments: Any, shapes: Any) -> list[Any]:
    """The dynamic shape request of each flattened argument."""
    if isinstance(shapes, Mapping) and isinstance(arguments, tuple):
        shapes = tuple(shapes.values())
    if isinstance(arguments, list | tuple):
        inner = shapes if shapes is not None else [None] * len(arguments)
        return [r for a, s in zip(arguments, inner, strict=True) for r in _requests(a, s)]
    if isinstance(arguments, Mapping):
        inner = shapes if shapes is not None else dict.fromkeys(arguments)
        return [r for key in arguments for r in _requests(arguments[key], inner[key])]
    return [shapes] if pytree.tree_leaves(arguments) else []


class _Translation:
    """One exported program on its way to a graph."""

    def __init__(self, program: Any, names: Names, shapes: Any, arguments: tuple[Any, ...]) -> None:
        self.program = program
        self.names = names
        self.values: dict[Any, Any] = {}
        self.inputs: list[Node] = []
        self.first_owner: dict[int, str] = {}
        self.placeholders = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
        self.users = [s for s in program.graph_signature.input_specs if _is_user(s)]
        fakes = [self.placeholders[spec.arg.name].meta["val"] for spec in self.users]
        pairs = zip(fakes, _requests(arguments, shapes), strict=True)
        tensors = [(f, r) for f, r in pairs if isinstance(f, torch.Tensor)]
        sizes = read_symbols(
            [f for f, _ in tensors], [r for _, r in tensors], program.range_constraints
        )
        self.emit = Emitter(sizes)

    def graph(self, name: str) -> Graph:
        self._read_inputs()
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self.emit.result = node.meta.get("val")
                self.values[node] = self._call(node)
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
            numbers = owner.detach().cpu().reshape(-1)
            wide = numbers.float() if numbers.is_floating_point() else numbers
            return self.emit.add(
                "data",
                values=tuple(wide.tolist()),
                shape=tuple(owner.shape),
                dtype=from_torch_dtype(owner.dtype),
            )
        # A parameter that two modules share is one input, under the name that came first.
        name = spec.target if owner is None else self.first_owner.setdefault(id(owner), spec.target)
        return self._input(name, fake, "weight")

    def _call(self, node: Any) -> Any:
        values = pytree.tree_map_only(torch.fx.Node, self.values.__getitem__, list(node.args))
        keywords = pytree.tree_map_only(torch.fx.Node, self.values.__getitem__, dict(node.kwargs))
        if not isinstance(node.target, torch._ops.OpOverload):
            return self._plain_call(node, values)
        target = str(node.target)
        if target in IGNORED:
            return None
        if isinstance(node.meta.get("val"), torch.SymInt | int | bool | float):
            return self._number(node.meta["val"])
        return self._rewrite(node.target, values, keywords)

    def _rewrite(self, operation: Any, values: list[Any], keywords: dict[str, Any]) -> Results:
        rule = RULES.get(str(operation))
        if rule is not None:
            whole = [
                values[i] if i < len(values) else keywords.get(a.name, a.default_value)
                for i, a in enumerate(operation._schema.arguments)
            ]
            try:
                return rule(self.emit, *whole)
            except GraphError:
                # A use the rule does not know; PyTorch does.
                pass
        found: Results = write_extern(self.emit, str(operation), values, keywords)
        return found

    def _plain_call(self, node: Any, values: list[Any]) -> Any:
        if isinstance(node.meta.get("val"), torch.SymInt | int | bool | float):
            return self._number(node.meta["val"])
        if node.target.__name__ == "getitem":
            return values[0][values[1]]
        raise GraphError(f"cannot capture a call of {node.target.__name__}")

    def _number(self, value: Any) -> Any:
        return self.emit.sizes.dim(value) if isinstance(value, torch.SymInt) else value

    def _outputs(self, results: Sequence[Any]) -> tuple[Output, ...]:
        specs = self.program.graph_signature.output_specs
        count = sum(spec.kind is OutputKind.USER_OUTPUT for spec in specs)
        default = ["output"] if count == 1 else [f"output.{i}" for i in range(count)]
        given = iter(list(self.names.outputs) or default)
        outputs = []
        for spec, result in zip(specs, results, strict=True):
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
