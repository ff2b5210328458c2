import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from banyan.compiler.capture.arrays import to_array
from banyan.compiler.capture.export import Names, capture_module
from banyan.compiler.ir.graph import Graph, Node
from banyan.compiler.targets.interpreter.run import run_graph
from banyan.foundation.errors import GraphError
from tests.compiler.capture.capturing import call_extern, captured

X = torch.randn(3, 4)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("steps", torch.tensor([0.5, 1.0, 2.0, 4.0]), persistent=False)
        self.register_buffer("scale", torch.tensor([2.0]))

    def forward(self, ids: Tensor) -> Tensor:
        hidden: Tensor = self.table(ids) * self.steps * self.scale
        logits: Tensor = self.head(hidden)
        return logits


def by_role(graph: Graph, role: str) -> list[str]:
    return [str(node.attr("name")) for node in graph.inputs if node.attr("role") == role]


def node_of(graph: Graph, op: str) -> Node:
    (found,) = [node for node in graph.nodes() if node.op == op]
    return found


def test_parameters_are_weights_under_their_full_names_and_shared_ones_appear_once() -> None:
    graph = captured(Tiny(), torch.tensor([1, 5]))
    assert by_role(graph, "weight") == ["table.weight", "scale"]
    assert by_role(graph, "argument") == ["ids"]


def test_a_small_constant_buffer_becomes_data() -> None:
    data = node_of(captured(Tiny(), torch.tensor([1, 5])), "data")
    assert data.attr("values") == (0.5, 1.0, 2.0, 4.0)


def test_a_captured_module_gives_what_the_module_gives() -> None:
    module, ids = Tiny(), torch.tensor([1, 5])
    graph = captured(module, ids)
    arrays = {"ids": ids.numpy(), "table.weight": to_array(module.table.weight)}
    found = run_graph(graph, {**arrays, "scale": to_array(module.get_buffer("scale"))})
    torch.testing.assert_close(torch.from_numpy(found["output"]), module(ids).detach())


def test_the_names_of_dims_become_symbols_with_their_bounds() -> None:
    length = torch.export.Dim("length", min=1, max=50)
    graph = captured(Tiny(), torch.tensor([1, 5]), dynamic_shapes=({0: length},))
    (symbol,) = graph.symbols()
    assert (symbol.name, symbol.minimum, symbol.maximum) == ("length", 1, 50)


def test_a_module_on_fake_tensors_is_captured_without_memory() -> None:
    with FakeTensorMode():
        graph = capture_module(nn.Linear(4096, 4096), (torch.zeros(2, 4096),), name="wide")
    assert by_role(graph, "weight") == ["weight", "bias"]


def test_a_module_on_meta_tensors_is_captured_without_memory() -> None:
    with torch.device("meta"):
        graph = capture_module(nn.Linear(8, 8), (torch.zeros(2, 8),), name="meta")
    assert by_role(graph, "weight") == ["weight", "bias"]


def test_names_and_states_are_those_of_the_caller() -> None:
    names = Names(["total", "step"], ["next", "double"], {"next": "total"})
    graph = capture_module(
        torch.nn.Module.__new__(Adder).initialised(), (X, X), name="sum", names=names
    )
    assert [(o.name, o.updates) for o in graph.outputs] == [("next", "total"), ("double", None)]
    assert by_role(graph, "state") == ["total"]


class Adder(nn.Module):
    def initialised(self) -> "Adder":
        super().__init__()
        return self

    def forward(self, total: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        return total + step, 2 * step


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.get_buffer("count").add_(x.sum(0))
        return x + self.get_buffer("count")


def test_a_buffer_that_the_module_changes_is_a_state() -> None:
    graph = captured(Counter(), X)
    assert by_role(graph, "state") == ["count"]
    assert [(o.name, o.updates) for o in graph.outputs] == [
        ("count.updated", "count"),
        ("output", None),
    ]


def test_an_operation_without_a_rule_stays_a_call_to_pytorch() -> None:
    graph = captured(lambda x: torch.lgamma(x) + 1, X)
    extern = node_of(graph, "extern")
    assert extern.attr("target") == "aten.lgamma.default"
    found = run_graph(graph, {"x": X.numpy()}, call_extern=call_extern)
    torch.testing.assert_close(torch.from_numpy(found["output"]), torch.lgamma(X) + 1)


def test_a_module_that_cannot_be_traced_says_so_in_one_sentence() -> None:
    def depends_on_data(x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x

    with pytest.raises(GraphError, match="cannot trace WrappedOne"):
        captured(depends_on_data, X)


def test_an_unknown_element_type_is_named() -> None:
    with pytest.raises(GraphError, match="float64 is not supported"):
        captured(lambda x: x + 1, X.double())


def test_a_module_that_changes_its_argument_is_refused() -> None:
    with pytest.raises(GraphError, match="changes its input"):
        captured(lambda x: x.add_(1), X)


def test_one_tensor_passed_twice_is_two_arguments() -> None:
    graph = capture_module(Adder().initialised(), (X, X), name="sum")
    one, two = np.ones((3, 4), np.float32), np.full((3, 4), 2, np.float32)
    found = run_graph(graph, {"total": one, "step": two})
    assert found["output.0"][0, 0] == 3
    assert found["output.1"][0, 0] == 4


def test_too_few_names_are_refused() -> None:
    with pytest.raises(GraphError, match="1 argument names for 2 arguments"):
        capture_module(Adder().initialised(), (X, X), name="sum", names=Names(["only"]))


def test_a_state_that_is_no_input_is_refused() -> None:
    names = Names(["a", "b"], ["c", "d"], {"c": "missing"})
    with pytest.raises(GraphError, match="updates missing, which is no input"):
        capture_module(Adder().initialised(), (X, X), name="sum", names=names)


def test_a_result_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(GraphError, match="only tensors can be results"):
        captured(lambda x: (x, 3), X)


def test_keyword_shapes_follow_the_order_of_arguments() -> None:
    length = torch.export.Dim("length", min=1, max=9)
    shapes = {"total": {0: length}, "step": {0: length}}
    graph = capture_module(Adder().initialised(), (X, X), name="sum", dynamic_shapes=shapes)
    assert [str(node.shape[0]) for node in graph.inputs] == ["length", "length"]
