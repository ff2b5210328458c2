"""The work of a step from the shape of a model, for models that nobody captured yet.

Counts what `graph_work` finds in the graphs of the decoders we serve; the test compares both.
"""

from collections.abc import Iterator

from banyan.compiler.ir.symbols import symbol
from banyan.planner.model_shape import LayerShape, ModelShape, bytes_per_number
from banyan.planner.prediction.work import (
    BEFORE,
    AttentionWork,
    ElementwiseWork,
    ExpertWork,
    LinearWork,
    LookupWork,
    NodeWork,
    StepWork,
)

_TOKENS = symbol("num_tokens")
_ROWS = symbol("num_logit_rows")
_USUAL_HEAD = 128
"""Numbers of a head of keys, where a shape does not say how many heads there are."""


def shape_work(model: ModelShape) -> StepWork:
    """Count the work of one step."""
    nodes: list[NodeWork] = [_embedding(model)]
    for place, layer in enumerate(model.layers):
        nodes += _layer(model, layer, place)
    nodes += _head(model)
    return StepWork(tuple(nodes), len(model.layers))


def _embedding(model: ModelShape) -> LookupWork:
    row = model.hidden_size * bytes_per_number(model.compute_dtype)
    return LookupWork("embedding", BEFORE, _TOKENS, row, row * model.vocab_size)


def _head(model: ModelShape) -> Iterator[NodeWork]:
    name = "embedding" if model.tied_embeddings else "head"
    number = bytes_per_number(model.compute_dtype)
    hidden, words = model.hidden_size, model.vocab_size
    place = len(model.layers)
    yield ElementwiseWork(place, _ROWS * int(2 * hidden * number), 1)
    yield LinearWork(
        (name,), place, _ROWS, words, hidden, model.compute_dtype, number * hidden * words
    )


def _layer(model: ModelShape, layer: LayerShape, place: int) -> Iterator[NodeWork]:
    hidden, query, pair = model.hidden_size, layer.attention_width, layer.cache_width
    number = int(bytes_per_number(model.compute_dtype))
    if query and pair:
        yield from _attention(model, layer, place)
    if layer.num_experts:
        yield _linear(model, f"{place}.router", place, layer.num_experts, hidden, routed=True)
        yield from _experts(model, layer, place)
    else:
        rest = layer.dense_weights - hidden * (2 * query + pair) - 2 * hidden
        inner = rest // (3 * hidden)
        if inner:
            yield _linear(model, f"{place}.up", place, 2 * inner, hidden)
            yield _linear(model, f"{place}.down", place, hidden, inner)
    # Two norms and the rotations of queries and keys read and write rows.
    crossing = 2 * (2 * hidden + query + pair // 2)
    yield ElementwiseWork(place, _TOKENS * (crossing * number), 4)


def _attention(model: ModelShape, layer: LayerShape, place: int) -> Iterator[NodeWork]:
    hidden, query, pair = model.hidden_size, layer.attention_width, layer.cache_width
    number = int(bytes_per_number(model.compute_dtype))
    groups = layer.num_kv_heads or max(1, pair // (2 * _USUAL_HEAD))
    size = pair // (2 * groups)
    yield _linear(model, f"{place}.qkv", place, query + pair, hidden)
    yield ElementwiseWork(place, _TOKENS * (2 * pair * number), 2, attention=True)
    yield AttentionWork(
        place,
        heads=query // size,
        cache_heads=groups,
        head_size=size,
        window=layer.window,
        form=model.cache_dtype,
        bytes_per_token=model.cache_bytes(place),
    )
    yield _linear(model, f"{place}.output", place, hidden, query)


def _linear(
    model: ModelShape, name: str, place: int, columns: int, depth: int, *, routed: bool = False
) -> LinearWork:
    form = model.compute_dtype if routed else model.weight_dtype
    num_bytes = bytes_per_number(form) * columns * depth
    return LinearWork((name,), place, _TOKENS, columns, depth, form, num_bytes)


def _experts(model: ModelShape, layer: LayerShape, place: int) -> Iterator[ExpertWork]:
    hidden, inner = model.hidden_size, layer.expert_weights // (3 * model.hidden_size)
    rows, count = _TOKENS * layer.top_k, layer.num_experts
    for kind, columns, depth in (("up", 2 * inner, hidden), ("down", hidden, inner)):
        num_bytes = model.bytes_per_weight * columns * depth * count
        name = f"{place}.experts.{kind}"
        yield ExpertWork((name,), place, rows, columns, depth, count, model.weight_dtype, num_bytes)
