import pytest

from banyan.compiler.ir.verify import verify
from banyan.engine.workbench.measuring.graphs import AttentionChain, LinearChain, NormChain


@pytest.mark.parametrize(
    ("weights", "op", "inputs"),
    [("float32", "dot", 6), ("bfloat16", "dot", 6), ("int8", "quantized_linear", 12)],
)
def test_a_chain_has_two_layers_for_each_pair_and_weights_of_their_own(
    weights: str, op: str, inputs: int
) -> None:
    chain = LinearChain(weights, depth=64, columns=128, pairs=3)
    graph = chain.graph(most_rows=16)
    verify(graph)
    assert sum(node.op == op for node in graph.nodes()) == 6
    names = [n.attr("name") for n in graph.inputs if n.attr("role") == "weight"]
    assert len(names) == len(set(names)) == inputs
    assert graph.outputs[0].node.shape[1] == 64


@pytest.mark.parametrize(
    ("weights", "group"), [("float32", 0), ("bfloat16", 0), ("int8", 256), ("int4", 64)]
)
def test_groups_are_those_of_the_engine(weights: str, group: int) -> None:
    assert LinearChain(weights, depth=256, columns=128, pairs=1).group == group


@pytest.mark.parametrize(
    ("cache", "token_bytes", "states"),
    [
        ("float32", 2 * 8 * 128 * 4, 4),
        ("bfloat16", 2 * 8 * 128 * 2, 4),
        ("int8", 2 * 8 * (128 + 4), 8),
        ("int4", 2 * 8 * (64 + 8), 8),
    ],
)
def test_layers_of_attention_have_caches_of_their_own(
    cache: str, token_bytes: int, states: int
) -> None:
    chain = AttentionChain(cache, query_heads=4, key_heads=8, head_size=128, layers=2)
    graph = chain.graph()
    verify(graph)
    assert chain.token_bytes == token_bytes
    assert sum(node.attr("role") == "state" for node in graph.inputs) == states
    assert sum(node.op == "paged_attention" for node in graph.nodes()) == 2


def test_norms_follow_each_other() -> None:
    graph = NormChain("bfloat16", width=64, layers=5).graph(most_rows=4)
    verify(graph)
    assert sum(node.op == "rsqrt" for node in graph.nodes()) == 5
