"""Capture one decoder step as a graph. Imports torch; called when no graph is kept on disk."""

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim

from banyan.compiler.capture.export import Names, capture_module
from banyan.compiler.ir.graph import Graph
from banyan.models.configuration import ModelConfiguration
from banyan.models.decoder import Decoder
from banyan.models.fake_module import build_fake
from banyan.models.reference import empty_caches

# One step never holds more than this many tokens, sequences, or blocks of one sequence.
MAX_STEP_TOKENS = 65_536
MAX_STEP_SEQUENCES = 65_536
MAX_TABLE_BLOCKS = 65_536
MAX_BLOCKS = 2**31 - 1

ARGUMENTS = (
    "token_ids",
    "positions",
    "slots",
    "block_tables",
    "query_starts",
    "context_lengths",
    "logit_rows",
)


def capture_decoder_step(configuration: ModelConfiguration, *, dtype: str) -> Graph:
    """Trace a decoder on fake tensors; no weight and no cache takes memory."""
    mode = FakeTensorMode()
    torch_dtype: torch.dtype = getattr(torch, dtype)
    module = build_fake(lambda: Decoder(configuration), mode, dtype=torch_dtype)
    with mode:
        arguments = _example_arguments(configuration, torch_dtype)
    layers = range(configuration.num_layers)
    states = [f"{kind}_cache.{layer}" for kind in ("key", "value") for layer in layers]
    updates = {f"{state}.updated": state for state in states}
    return capture_module(
        module,
        arguments,
        name="decoder_step",
        dynamic_shapes=_dynamic_shapes(configuration.num_layers),
        names=Names(arguments=[*ARGUMENTS, *states], outputs=["logits", *updates], states=updates),
    )


def _example_arguments(configuration: ModelConfiguration, dtype: torch.dtype) -> tuple[Any, ...]:
    """Give arguments of one step; every free size is another number, so none is confused."""
    num_tokens, num_sequences, num_table_blocks, num_logit_rows, num_blocks = 11, 5, 7, 3, 13
    keys, values = empty_caches(configuration, num_blocks=num_blocks, dtype=dtype)
    tokens = torch.zeros(num_tokens, dtype=torch.int64)
    return (
        tokens,
        tokens.clone(),
        tokens.clone(),
        torch.zeros(num_sequences, num_table_blocks, dtype=torch.int32),
        torch.zeros(num_sequences + 1, dtype=torch.int32),
        torch.zeros(num_sequences, dtype=torch.int32),
        torch.zeros(num_logit_rows, dtype=torch.int64),
        keys,
        values,
    )


def _dynamic_shapes(num_layers: int) -> dict[str, Any]:
    num_tokens = Dim("num_tokens", min=1, max=MAX_STEP_TOKENS)
    num_sequences = Dim("num_sequences", min=1, max=MAX_STEP_SEQUENCES)
    num_table_blocks = Dim("num_table_blocks", min=1, max=MAX_TABLE_BLOCKS)
    num_logit_rows = Dim("num_logit_rows", min=1, max=MAX_STEP_TOKENS)
    num_blocks = Dim("num_blocks", min=1, max=MAX_BLOCKS)
    return {
        "token_ids": {0: num_tokens},
        "positions": {0: num_tokens},
        "slots": {0: num_tokens},
        "block_tables": {0: num_sequences, 1: num_table_blocks},
        "query_starts": {0: num_sequences + 1},
        "context_lengths": {0: num_sequences},
        "logit_rows": {0: num_logit_rows},
        "key_caches": [{0: num_blocks}] * num_layers,
        "value_caches": [{0: num_blocks}] * num_layers,
    }
