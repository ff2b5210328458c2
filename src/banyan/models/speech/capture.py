"""Capture both sides of a Whisper model as graphs. Imports torch; called when none are kept."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim

from banyan.compiler.capture.export import Names, capture_module
from banyan.compiler.ir.cached import CACHE_BLOCK, CACHE_FORMATS
from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.models.fake_module import build_fake
from banyan.models.graph_splicing import splice
from banyan.models.speech.architecture import SoundEncoder, TextDecoder
from banyan.models.speech.configuration import SpeechConfiguration
from banyan.models.step_capture import (
    MAX_BLOCKS,
    MAX_STEP_SEQUENCES,
    MAX_STEP_TOKENS,
    MAX_TABLE_BLOCKS,
)

ARGUMENTS = (
    "token_ids",
    "positions",
    "slots",
    "block_tables",
    "query_starts",
    "context_lengths",
    "sound_tables",
    "sound_starts",
    "sound_lengths",
    "logit_rows",
)
_STATES = ("key_cache", "value_cache", "sound_key_cache", "sound_value_cache")


def capture_sound_encoder(configuration: SpeechConfiguration, *, dtype: str) -> Graph:
    """Trace the encoder for one window."""
    mode = FakeTensorMode()
    module = build_fake(lambda: SoundEncoder(configuration), mode, dtype=getattr(torch, dtype))
    with mode:
        features = torch.zeros(1, configuration.num_mel_bins, 2 * configuration.num_frames)
    layers = range(configuration.decoder_layers)
    outputs = [f"sound_{kind}.{layer}" for layer in layers for kind in ("keys", "values")]
    graph = capture_module(
        module,
        (features,),
        name="sound_encoder",
        names=Names(arguments=["features"], outputs=outputs),
    )
    return _with_states(graph, [])


def capture_text_decoder(configuration: SpeechConfiguration, *, dtype: str) -> Graph:
    """Trace one step of the decoder."""
    mode = FakeTensorMode()
    module = build_fake(lambda: TextDecoder(configuration), mode, dtype=getattr(torch, dtype))
    layers = range(configuration.decoder_layers)
    states = [f"{state}.{layer}" for layer in layers for state in _STATES]
    with mode:
        arguments = _examples(configuration)
        caches = [cache for _ in layers for cache in _caches(configuration, dtype)]
    shapes = _dynamic_shapes()
    blocks, sound_blocks = (
        {0: Dim(name, min=1, max=MAX_BLOCKS)} for name in ("num_blocks", "num_sound_blocks")
    )
    of_caches = [dims for _ in layers for dims in (blocks, blocks, sound_blocks, sound_blocks)]
    updated = [f"{state}.{layer}.updated" for layer in layers for state in _STATES[:2]]
    graph = capture_module(
        module,
        (*arguments, caches),
        name="text_decoder",
        dynamic_shapes=(*(shapes[name] for name in ARGUMENTS), of_caches),
        names=Names(arguments=[*ARGUMENTS, *states], outputs=["logits", *updated]),
    )
    return _with_states(graph, states)


def _with_states(graph: Graph, states: list[str]) -> Graph:
    """Turn the caches from arguments into states, and leave out the weights of the other side.

    The caches of the sound are never written by the graph.
    """
    builder = Builder()
    inputs: list[Node] = []

    def bind(node: Node) -> Node:
        name = str(node.attr("name"))
        role = "state" if name in states else str(node.attr("role"))
        inputs.append(builder.input(name, node.tensor, role))
        return inputs[-1]

    results = splice(builder, graph, bind)
    outputs = tuple(
        Output(name, node, name.removesuffix(".updated") if name.endswith(".updated") else None)
        for name, node in results.items()
    )
    used = _reachable(output.node for output in outputs)
    kept = [node for node in inputs if node in used or node.attr("role") != "weight"]
    order = {str(node.attr("name")): place for place, node in enumerate(graph.inputs)}
    return Graph(
        graph.name,
        tuple(sorted(kept, key=lambda node: order[str(node.attr("name"))])),
        outputs,
    )


def _reachable(roots: Iterable[Node]) -> set[Node]:
    found: set[Node] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(node.args)
    return found


def _examples(configuration: SpeechConfiguration) -> list[Tensor]:
    """Arguments of one step; every free size is another number, so none is confused."""
    num_tokens, num_sequences, num_table_blocks, num_rows = 11, 5, 7, 3
    sound_blocks = -(-configuration.num_frames // CACHE_BLOCK)
    wide, narrow = torch.int64, torch.int32
    shapes = {
        "token_ids": ((num_tokens,), wide),
        "positions": ((num_tokens,), wide),
        "slots": ((num_tokens,), wide),
        "block_tables": ((num_sequences, num_table_blocks), narrow),
        "query_starts": ((num_sequences + 1,), narrow),
        "context_lengths": ((num_sequences,), narrow),
        "sound_tables": ((num_tokens, sound_blocks), narrow),
        "sound_starts": ((num_tokens + 1,), narrow),
        "sound_lengths": ((num_tokens,), narrow),
        "logit_rows": ((num_rows,), wide),
    }
    return [torch.zeros(shape, dtype=kind) for shape, kind in map(shapes.__getitem__, ARGUMENTS)]


def _caches(configuration: SpeechConfiguration, dtype: str) -> list[Tensor]:
    heads = configuration.decoder_heads
    size = configuration.hidden_size // heads
    form, kind = CACHE_FORMATS[dtype], getattr(torch, dtype)
    shapes = (form.key_shape(heads, size), form.value_shape(heads, size))
    return [torch.zeros((blocks, *shape), dtype=kind) for blocks in (13, 17) for shape in shapes]


def _dynamic_shapes() -> dict[str, dict[int, Dim]]:
    num_tokens = Dim("num_tokens", min=1, max=MAX_STEP_TOKENS)
    num_sequences = Dim("num_sequences", min=1, max=MAX_STEP_SEQUENCES)
    num_table_blocks = Dim("num_table_blocks", min=1, max=MAX_TABLE_BLOCKS)
    by_token = ("token_ids", "positions", "slots", "sound_tables", "sound_lengths")
    return {name: {0: num_tokens} for name in by_token} | {
        "block_tables": {0: num_sequences, 1: num_table_blocks},
        "query_starts": {0: num_sequences + 1},
        "context_lengths": {0: num_sequences},
        "sound_starts": {0: num_tokens + 1},
        "logit_rows": {0: Dim("num_logit_rows", min=1, max=MAX_STEP_TOKENS)},
    }
