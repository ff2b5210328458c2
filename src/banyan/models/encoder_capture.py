"""Capture an encoder as a graph. Imports torch; called when no graph is kept on disk."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim

from banyan.compiler.capture.export import Names, capture_module
from banyan.compiler.ir.graph import Graph
from banyan.models.configuration import EncoderConfiguration
from banyan.models.encoder import Encoder, LabelledEncoder
from banyan.models.fake_module import build_fake

MAX_TEXTS = 4096


def capture_encoder(configuration: EncoderConfiguration, *, dtype: str) -> Graph:
    """Trace an encoder on fake tensors; no weight takes memory."""
    mode = FakeTensorMode()
    has_labels = configuration.head is not None
    architecture = LabelledEncoder if has_labels else Encoder
    module = build_fake(lambda: architecture(configuration), mode, dtype=getattr(torch, dtype))
    num_texts = Dim("num_texts", min=1, max=MAX_TEXTS)
    num_tokens = Dim("num_tokens", min=1, max=configuration.max_tokens)
    shape = {0: num_texts, 1: num_tokens}
    names = ("token_ids", "attention_mask", "token_types")
    with mode:
        arguments = tuple(torch.zeros(3, 5, dtype=torch.int64) for _ in names)
    return capture_module(
        module,
        arguments,
        name="encoder",
        dynamic_shapes=dict.fromkeys(names, shape),
        names=Names(arguments=names, outputs=["scores" if has_labels else "hidden"]),
    )
