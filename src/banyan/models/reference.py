"""Run the architectures eagerly in PyTorch: the reference that programs are compared with.

Slow and simple. Used by tests and by the parity check, never to serve.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from banyan.compiler.ir.cached import CACHE_BLOCK as BLOCK_SIZE
from banyan.compiler.ir.cached import CACHE_FORMATS
from banyan.models.configuration import EncoderConfiguration, ModelConfiguration
from banyan.models.decoder import Decoder
from banyan.models.encoder import Encoder, LabelledEncoder
from banyan.models.layers import Float32Parameter
from banyan.models.weights import CheckpointWeights

_Module = TypeVar("_Module", bound=nn.Module)


def load_decoder(
    configuration: ModelConfiguration, weights: CheckpointWeights, *, dtype: torch.dtype
) -> Decoder:
    """Build a decoder in memory with the weights of a checkpoint."""
    return _load(Decoder(configuration), weights, dtype)


def load_encoder(
    configuration: EncoderConfiguration, weights: CheckpointWeights, *, dtype: torch.dtype
) -> Encoder:
    """Build an encoder in memory with the weights of a checkpoint."""
    architecture = Encoder if configuration.head is None else LabelledEncoder
    return _load(architecture(configuration), weights, dtype)


def _load(module: _Module, weights: CheckpointWeights, dtype: torch.dtype) -> _Module:
    parameters = dict(module.named_parameters())
    weights.require({name: tuple(parameter.shape) for name, parameter in parameters.items()})
    for name, parameter in parameters.items():
        array = weights.read(name)
        kind = torch.float32 if isinstance(parameter, Float32Parameter) else dtype
        parameter.data = torch.from_numpy(array.astype(np.float32)).to(kind)
        weights.release(name)
    return module.eval()


def empty_caches(
    configuration: ModelConfiguration, *, num_blocks: int, form: str
) -> tuple[list[Tensor], ...]:
    """Give zeroed caches of every layer: keys, values and, if `form` is quantised, their scales."""
    cache = CACHE_FORMATS[form]
    heads, size = configuration.num_kv_heads, configuration.cached_size
    dtype = {"fp8": "float8_e4m3fn", "int4": "uint8"}.get(form, form)
    kinds = [(cache.key_shape(heads, size), dtype)]
    if configuration.caches_values:
        kinds.append((cache.value_shape(heads, size), dtype))
    if cache.parts:
        kinds += [(cache.scale_shape(heads), "float32")] * 2
    return tuple(
        [
            torch.zeros((num_blocks, *shape), dtype=getattr(torch, name))
            for _ in range(configuration.num_layers)
        ]
        for shape, name in kinds
    )


@torch.no_grad()
def reference_logits(
    decoder: Decoder,
    configuration: ModelConfiguration,
    token_ids: Sequence[int],
    *,
    chunks: Sequence[int] = (),
    form: str | None = None,
) -> NDArray[np.float32]:
    """Give the logits [T, vocab] after each token of one sequence.

    The tokens pass in one step, or in several that begin at the positions `chunks`. Keys and values
    are kept as `form` says (a name of `ir.cached`), else in the type of the weights.
    """
    dtype = str(decoder.model.embed_tokens.weight.dtype).removeprefix("torch.")
    num_blocks = -(-len(token_ids) // BLOCK_SIZE)
    # A spare block in front and blocks in falling order: a mistake in the tables shows.
    caches = empty_caches(configuration, num_blocks=num_blocks + 1, form=form or dtype)
    table = torch.arange(num_blocks, 0, -1, dtype=torch.int32)
    pieces = []
    for start, stop in pairwise([0, *chunks, len(token_ids)]):
        positions = torch.arange(start, stop)
        slots = table[positions // BLOCK_SIZE].long() * BLOCK_SIZE + positions % BLOCK_SIZE
        logits, *after = decoder(
            torch.tensor(token_ids[start:stop]),
            positions,
            slots,
            table.unsqueeze(0),
            torch.tensor([0, stop - start], dtype=torch.int32),
            torch.tensor([stop], dtype=torch.int32),
            torch.arange(stop - start),
            *caches,
        )
        caches = tuple(after)
        pieces.append(logits.numpy())
    return np.concatenate(pieces)
