"""Capture heads that guess as graphs. Imports torch; called when no graph is kept on disk."""

from collections.abc import Callable

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim

from banyan.compiler.capture.export import Names, capture_module
from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.models.fake_module import build_fake
from banyan.models.graph_splicing import splice
from banyan.models.heads.modules import Eagle, Medusa
from banyan.models.heads.reading import OWN, EagleHead, MedusaHeads
from banyan.models.reference import empty_caches
from banyan.models.step_capture import (
    ARGUMENTS,
    MAX_STEP_SEQUENCES,
    NUM_BLOCKS,
    NUM_BLOCKS_DIM,
    example_arguments,
    step_dims,
)

_SHARED = {
    "embed_tokens.weight": "model.embed_tokens.weight",
    "lm_head.weight": "lm_head.weight",
}


def capture_medusa(heads: MedusaHeads, *, dtype: str) -> Graph:
    """Trace Medusa heads: `hidden` [S, H] float32 to `token_ids` and `chances`, each [S, N]."""
    mode = FakeTensorMode()
    module = build_fake(lambda: Medusa(heads), mode, dtype=getattr(torch, dtype))
    with mode:
        hidden = torch.zeros(5, heads.hidden_size)
    num_sequences = Dim("num_sequences", min=1, max=MAX_STEP_SEQUENCES)
    graph = capture_module(
        module,
        (hidden,),
        name="medusa_heads",
        dynamic_shapes=({0: num_sequences},),
        names=Names(arguments=["hidden"], outputs=["token_ids", "chances"]),
    )
    # The list that holds the heads here has no name in their file.
    return _renamed(graph, lambda name: OWN + name.removeprefix("heads."))


def capture_eagle(heads: EagleHead, *, dtype: str) -> Graph:
    """Trace an EAGLE head: the arguments of a decoder's step and `hidden` [T, H] float32.

    Its outputs are `token_ids` [R], `chances` [R] and `hidden` [R, H], its states those of a
    decoder with its layers.
    """
    mode = FakeTensorMode()
    kind = getattr(torch, dtype)
    module = build_fake(lambda: Eagle(heads), mode, dtype=kind)
    with mode:
        keys, values = empty_caches(heads.layers, num_blocks=NUM_BLOCKS, form=dtype)
        examples = example_arguments(heads.layers, kind)
        # Between steps states are float32, whatever the weights are.
        examples["hidden"] = examples["hidden"].float()
    arguments = {name: examples[name] for name in (*ARGUMENTS, "hidden")}
    shapes = step_dims(heads.layers)
    states = [
        f"{kind}_cache.{layer}"
        for kind in ("key", "value")
        for layer in range(heads.layers.num_layers)
    ]
    graph = capture_module(
        module,
        (*arguments.values(), keys, values),
        name="eagle_head",
        dynamic_shapes=(
            *(shapes[name] for name in arguments),
            [NUM_BLOCKS_DIM] * len(keys),
            [NUM_BLOCKS_DIM] * len(values),
        ),
        names=Names(
            arguments=[*arguments, *states],
            outputs=["token_ids", "chances", "hidden", *(f"{name}.updated" for name in states)],
            states={f"{name}.updated": name for name in states},
        ),
    )
    return _renamed(graph, lambda name: _SHARED.get(name, OWN + name))


def _renamed(graph: Graph, name_of: Callable[[str], str]) -> Graph:
    """The graph with other names for its weights."""
    builder = Builder()
    inputs: dict[Node, Node] = {}
    for node in graph.inputs:
        name, role = str(node.attr("name")), str(node.attr("role"))
        named = name_of(name) if role == "weight" else name
        inputs[node] = builder.input(named, node.tensor, role)
    results = splice(builder, graph, inputs.__getitem__)
    outputs = tuple(Output(o.name, results[o.name], o.updates) for o in graph.outputs)
    return Graph(graph.name, tuple(inputs.values()), outputs)
