"""Capture one decoder step as a graph. Imports torch; called when no graph is kept on disk.

The decoder is captured in parts: what comes before the layers, one layer of each kind, what comes
after. The graph of a layer is then spliced in once for every layer of its kind, so the time to
capture does not grow with the depth of the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim

from banyan.compiler.capture.export import Names, capture_module
from banyan.compiler.ir.cached import CACHE_FORMATS
from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.models.configuration import ModelConfiguration
from banyan.models.decoder import Decoder, logits_of_rows, with_image_rows
from banyan.models.fake_module import build_fake
from banyan.models.graph_splicing import splice
from banyan.models.layers import Batch
from banyan.models.reference import empty_caches

# One step never holds more than this many tokens, sequences, or blocks of one sequence.
MAX_STEP_TOKENS = 65_536
MAX_STEP_SEQUENCES = 65_536
MAX_TABLE_BLOCKS = 65_536
MAX_BLOCKS = 2**31 - 1

# Another number than every other size of the example, so none is confused.
NUM_BLOCKS = 13
NUM_BLOCKS_DIM = {0: Dim("num_blocks", min=1, max=MAX_BLOCKS)}

ARGUMENTS = (
    "token_ids",
    "positions",
    "slots",
    "block_tables",
    "query_starts",
    "context_lengths",
    "logit_rows",
)
# More arguments of models that see images.
IMAGE_ARGUMENTS = ("image_rows", "image_index")


def capture_decoder_step(
    configuration: ModelConfiguration, *, dtype: str, cache_format: str, gives_hidden: bool = False
) -> Graph:
    """Trace a decoder on fake tensors; no weight and no cache takes memory.

    `cache_format` names one of `ir.cached`; `gives_hidden` adds the output `hidden`.
    """
    tracer = _Tracer(configuration, dtype, cache_format)
    before, after = tracer.trace_before(), tracer.trace_after(gives_hidden=gives_hidden)
    kinds = [_kind_of(configuration, layer) for layer in range(configuration.num_layers)]
    by_kind = {kind: tracer.trace_layer(kinds.index(kind)) for kind in dict.fromkeys(kinds)}
    layers = [by_kind[kind] for kind in kinds]
    return _assemble(before, layers, after, tracer.states)


@dataclass(frozen=True, slots=True)
class _LayerKind:
    """What decides the graph of a layer: its window, its block, and experts that count later.

    `is_owed`: experts of the layer before have still to be added here.
    """

    window: int
    is_sparse: bool
    is_owed: bool
    defers: bool


def _kind_of(configuration: ModelConfiguration, layer: int) -> _LayerKind:
    experts = configuration.experts
    return _LayerKind(
        configuration.sliding_windows[layer],
        configuration.is_sparse(layer),
        is_owed=experts is not None and layer > 0 and experts.is_deferring(layer - 1),
        defers=experts is not None and experts.is_deferring(layer),
    )


class _Before(nn.Module):
    """Token ids to the first hidden states, positions to cosine and sine."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.embed_tokens = decoder.model.embed_tokens
        self.rotary = decoder.model.rotary

    def forward(self, token_ids: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cosine, sine = self.rotary(positions)
        return self.embed_tokens(token_ids), cosine, sine


class _BeforeSeeing(_Before):
    """The same where rows of images stand in for embeddings."""

    def forward(  # type: ignore[override]
        self, token_ids: Tensor, positions: Tensor, image_rows: Tensor, image_index: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden, cosine, sine = super().forward(token_ids, positions)
        return with_image_rows(hidden, image_rows, image_index), cosine, sine


class _OneLayer(nn.Module):
    """A layer that takes plain tensors."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self,
        hidden: Tensor,
        cosine: Tensor,
        sine: Tensor,
        slots: Tensor,
        block_tables: Tensor,
        query_starts: Tensor,
        context_lengths: Tensor,
        caches: list[Tensor],
    ) -> tuple[Tensor, ...]:
        batch = Batch(slots, block_tables, query_starts, context_lengths)
        return _listed(*self.layer(hidden, (cosine, sine), batch, caches))


class _OneOwedLayer(_OneLayer):
    """The same where experts of the layer before have still to be added."""

    def forward(  # type: ignore[override]
        self,
        hidden: Tensor,
        cosine: Tensor,
        sine: Tensor,
        slots: Tensor,
        block_tables: Tensor,
        query_starts: Tensor,
        context_lengths: Tensor,
        owed: Tensor,
        caches: list[Tensor],
    ) -> tuple[Tensor, ...]:
        batch = Batch(slots, block_tables, query_starts, context_lengths)
        return _listed(*self.layer(hidden, (cosine, sine), batch, caches, owed))


def _listed(result: Tensor, written: tuple[Tensor, ...], owed: Tensor | None) -> tuple[Tensor, ...]:
    return (result, *written) if owed is None else (result, *written, owed)


class _After(nn.Module):
    """The last hidden states to logits."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.norm = decoder.model.norm
        self.head = decoder.head

    def forward(self, hidden: Tensor, logit_rows: Tensor) -> Tensor:
        return logits_of_rows(hidden, logit_rows, self.norm, self.head)


class _AfterWithHidden(_After):
    """The last hidden states to logits, and to what heads that guess tokens read.

    The logits are computed as ever, so that they are the same bits.
    """

    def forward(self, hidden: Tensor, logit_rows: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(hidden, logit_rows), self.norm(hidden).float()


@dataclass(frozen=True, slots=True)
class _Part:
    """A captured part; `weight_prefixes` turn its weight names into those of the checkpoint."""

    graph: Graph
    weight_prefixes: dict[str, str]

    def weight_name(self, name: str, layer: int = 0) -> str:
        """Give the checkpoint's name of a weight of this part."""
        head, _, rest = name.partition(".")
        return f"{self.weight_prefixes[head].format(layer=layer)}.{rest}"


class _Tracer:
    """Traces parts of one decoder with the same sizes and symbols."""

    def __init__(self, configuration: ModelConfiguration, dtype: str, cache_format: str) -> None:
        self._configuration, self._output = configuration, configuration.output
        self._sees_images = configuration.sees_images
        self._mode, kind = FakeTensorMode(), getattr(torch, dtype)
        self._decoder = build_fake(lambda: Decoder(configuration), self._mode, dtype=kind)
        states = CACHE_FORMATS[cache_format].states
        self.states = states if configuration.caches_values else states[:1]
        with self._mode:
            caches = empty_caches(configuration, num_blocks=NUM_BLOCKS, form=cache_format)
            self._examples = example_arguments(configuration, kind) | {
                name: of_layers[0] for name, of_layers in zip(self.states, caches, strict=True)
            }
        self._dims = step_dims(configuration) | dict.fromkeys(self.states, NUM_BLOCKS_DIM)

    def trace_before(self) -> _Part:
        prefixes = {"embed_tokens": "model.embed_tokens"}
        names, outputs = ["token_ids", "positions"], ["hidden", "cosine", "sine"]
        if self._sees_images:
            names += IMAGE_ARGUMENTS
            return self._trace(_BeforeSeeing(self._decoder), names, outputs, prefixes)
        return self._trace(_Before(self._decoder), names, outputs, prefixes)

    def trace_layer(self, layer: int) -> _Part:
        kind = _kind_of(self._configuration, layer)
        wrapper = _OneOwedLayer if kind.is_owed else _OneLayer
        module = wrapper(self._decoder.model.layers[layer])
        rotation = ["hidden", "cosine", "sine"]
        batch = ["slots", "block_tables", "query_starts", "context_lengths"]
        outputs = ["hidden", *(f"new_{state}" for state in self.states)]
        names = [*rotation, *batch]
        if kind.is_owed:
            names.append("owed")
        if kind.defers:
            outputs.append("owed")
        prefixes = {"layer": "model.layers.{layer}"}
        return self._trace(module, names, outputs, prefixes, states=self.states)

    def trace_after(self, *, gives_hidden: bool) -> _Part:
        head = "model.embed_tokens" if self._decoder.lm_head is None else "lm_head"
        head = "score" if self._decoder.score is not None else head
        prefixes = {"norm": "model.norm", "head": head}
        outputs = [self._output, "hidden"] if gives_hidden else [self._output]
        after = _AfterWithHidden if gives_hidden else _After
        return self._trace(after(self._decoder), ["hidden", "logit_rows"], outputs, prefixes)

    def _trace(
        self,
        module: nn.Module,
        arguments: Sequence[str],
        outputs: Sequence[str],
        prefixes: dict[str, str],
        states: Sequence[str] = (),
    ) -> _Part:
        given: list[Any] = [self._examples[name] for name in arguments]
        dims: list[Any] = [self._dims[name] for name in arguments]
        if states:
            given.append([self._examples[name] for name in states])
            dims.append([self._dims[name] for name in states])
        graph = capture_module(
            module.eval(),
            tuple(given),
            name="part",
            dynamic_shapes=tuple(dims),
            names=Names(arguments=[*arguments, *states], outputs=outputs),
        )
        return _Part(graph, prefixes)


def example_arguments(configuration: ModelConfiguration, dtype: torch.dtype) -> dict[str, Tensor]:
    """Give arguments of one step; every free size is another number, so none is confused."""
    num_tokens, num_sequences, num_table_blocks, num_logit_rows = 11, 5, 7, 3
    num_image_rows, half = 17, configuration.head_dim // 2
    axes = (len(configuration.rope.sections),) if configuration.rope.sections else ()
    shapes = {
        "token_ids": ((num_tokens,), torch.int64),
        "positions": ((*axes, num_tokens), torch.int64),
        "slots": ((num_tokens,), torch.int64),
        "block_tables": ((num_sequences, num_table_blocks), torch.int32),
        "query_starts": ((num_sequences + 1,), torch.int32),
        "context_lengths": ((num_sequences,), torch.int32),
        "logit_rows": ((num_logit_rows,), torch.int64),
        "image_rows": ((num_image_rows, configuration.hidden_size), dtype),
        "image_index": ((num_tokens,), torch.int32),
        "hidden": ((num_tokens, configuration.hidden_size), dtype),
        "owed": ((num_tokens, configuration.hidden_size), dtype),
        "cosine": ((num_tokens, 1, half), torch.float32),
        "sine": ((num_tokens, 1, half), torch.float32),
    }
    return {name: torch.zeros(shape, dtype=kind) for name, (shape, kind) in shapes.items()}


def step_dims(configuration: ModelConfiguration) -> dict[str, dict[int, Any]]:
    """Name the free sizes of the arguments of a step."""
    tokens = Dim("num_tokens", min=1, max=MAX_STEP_TOKENS)
    num_tokens = {0: tokens}
    num_sequences = Dim("num_sequences", min=1, max=MAX_STEP_SEQUENCES)
    num_table_blocks = Dim("num_table_blocks", min=1, max=MAX_TABLE_BLOCKS)
    by_token = ("token_ids", "slots", "hidden", "owed", "cosine", "sine", "image_index")
    return dict.fromkeys(by_token, num_tokens) | {
        "positions": {1: tokens} if configuration.rope.sections else num_tokens,
        "image_rows": {0: Dim("num_image_rows", min=1, max=MAX_STEP_TOKENS)},
        "block_tables": {0: num_sequences, 1: num_table_blocks},
        "query_starts": {0: num_sequences + 1},
        "context_lengths": {0: num_sequences},
        "logit_rows": {0: Dim("num_logit_rows", min=1, max=MAX_STEP_TOKENS)},
    }


def _assemble(before: _Part, layers: Sequence[_Part], after: _Part, states: Sequence[str]) -> Graph:
    """Splice the parts into the graph of the whole step."""
    builder = Builder()
    inputs: dict[str, Node] = {}
    updates: dict[str, list[Output]] = {state: [] for state in states}

    def add(part: _Part, known: dict[str, Node], layer: int = 0) -> dict[str, Node]:
        def bind(node: Node) -> Node:
            name, role = str(node.attr("name")), "argument"
            if name in known:
                return known[name]
            if node.attr("role") == "weight":
                name, role = part.weight_name(name, layer), "weight"
            elif name in states:
                name, role = f"{name}.{layer}", "state"
            return inputs.setdefault(name, builder.input(name, node.tensor, role))

        return dict(splice(builder, part.graph, bind))

    known = add(before, {})
    for index, part in enumerate(layers):
        results = add(part, known, index)
        known |= {name: results[name] for name in ("hidden", "owed") if name in results}
        for name, outputs in updates.items():
            state = f"{name}.{index}"
            outputs.append(Output(f"{state}.updated", results[f"new_{name}"], state))
    last = [Output(name, node) for name, node in add(after, known).items()]
    return Graph(
        "decoder_step",
        _in_order(inputs, [f"{state}.{layer}" for state in states for layer in range(len(layers))]),
        (*last, *(output for kind in updates.values() for output in kind)),
    )


def _in_order(inputs: dict[str, Node], states: Sequence[str]) -> tuple[Node, ...]:
    """Arguments as the engine knows them, states by kind and layer, weights as met."""
    seen = [name for name in IMAGE_ARGUMENTS if name in inputs]
    named = [*ARGUMENTS, *seen, *states]
    weights = [node for name, node in inputs.items() if name not in named]
    return (*(inputs[name] for name in named), *weights)
