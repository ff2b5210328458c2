"""The decoder: Llama, Mistral, Qwen, Mixtral and DeepSeek are this module with different data.

One call is one step of the engine: prompt chunks and single new tokens of many sequences side by
side, without padding. It never loops over sequences; the paged cache says who sees what.

Legend: T new tokens, S sequences, B blocks per table, R rows that need logits.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from banyan.models.configuration import ModelConfiguration
from banyan.models.latent_attention import LatentAttention
from banyan.models.layers import (
    Attention,
    Batch,
    Embedding,
    GatedBlock,
    Linear,
    RootMeanSquareNorm,
)
from banyan.models.mixture_of_experts import MixtureOfExperts
from banyan.models.rotary import Rotary


class DecoderLayer(nn.Module):
    """Norm and attention, then norm and feed-forward, each added to the stream."""

    def __init__(self, configuration: ModelConfiguration, layer: int) -> None:
        super().__init__()
        c = configuration
        self.input_layernorm = RootMeanSquareNorm(c.hidden_size, c.norm_epsilon)
        self.self_attn: nn.Module = (
            Attention(c, layer) if c.latent is None else LatentAttention(c, c.latent)
        )
        self.post_attention_layernorm = RootMeanSquareNorm(c.hidden_size, c.norm_epsilon)
        self._block = "mlp"
        self._defers = c.experts is not None and c.experts.is_deferring(layer)
        if c.experts is not None and c.experts.sparse_layers[layer]:
            self._block = c.experts.names.block
            self.add_module(self._block, MixtureOfExperts(c.experts, c.hidden_size))
        else:
            self.mlp = GatedBlock(c.hidden_size, c.intermediate_size, bias=c.feed_forward_bias)

    def forward(
        self,
        hidden: Tensor,
        rotation: tuple[Tensor, Tensor],
        batch: Batch,
        caches: Sequence[Tensor],
        owed: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor | None]:
        """Give the new stream [T, hidden], the new caches, and what the next layer has to add.

        `owed` is what deferred experts of the layer before say; None where there are none.
        """
        attended, written = self.self_attn(self.input_layernorm(hidden), rotation, batch, caches)
        hidden = hidden + attended
        transformed, later = self._transform(self.post_attention_layernorm(hidden))
        hidden = hidden + transformed
        return hidden if owed is None else hidden + owed, written, later

    def _transform(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        block = self.get_submodule(self._block)
        if self._defers:
            assert isinstance(block, MixtureOfExperts), "only experts can be deferred"
            return block.parted(x)
        return block(x), None


class DecoderStack(nn.Module):
    """Embedding, layers and the last norm; named `model` in checkpoints."""

    def __init__(self, configuration: ModelConfiguration) -> None:
        super().__init__()
        c = configuration
        self.embed_tokens = Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(c, layer) for layer in range(c.num_layers))
        self.norm = RootMeanSquareNorm(c.hidden_size, c.norm_epsilon)
        self.rotary = Rotary(c.rope, c.head_dim)


class Decoder(nn.Module):
    """A decoder that advances many sequences by one step."""

    def __init__(self, configuration: ModelConfiguration) -> None:
        super().__init__()
        self.model = DecoderStack(configuration)
        c = configuration
        self.lm_head = self.score = None
        if c.output == "logits" and not c.tie_embeddings:
            self.lm_head = Linear(c.hidden_size, c.vocab_size)
        if c.output == "scores":
            assert c.classifier is not None, "a model that scores has labels"
            self.score = Linear(c.hidden_size, len(c.classifier.labels))
        self._output = c.output

    @property
    def head(self) -> Linear | Embedding | None:
        """The matrix behind the last norm; a tied model's is its embedding, others have none."""
        if self._output == "hidden":
            return None
        return self.score or self.lm_head or self.model.embed_tokens

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        slots: Tensor,
        block_tables: Tensor,
        query_starts: Tensor,
        context_lengths: Tensor,
        logit_rows: Tensor,
        *caches: Sequence[Tensor],
        image_rows: Tensor | None = None,
        image_index: Tensor | None = None,
    ) -> tuple[Tensor, *tuple[list[Tensor], ...]]:
        """Run one step.

        Sequence s owns the tokens `query_starts[s]` to `query_starts[s + 1]`; its keys, the new
        ones included, are `context_lengths[s]` and lie in the blocks `block_tables[s]`. A slot is
        block * 16 + offset; a negative slot is not written.

        Args:
            token_ids: [T] int64.
            positions: [T] int64, position of each token in its sequence; [3, T] where the rope
                has sections.
            slots: [T] int64, where its key and value are written.
            block_tables: [S, B] int32.
            query_starts: [S + 1] int32.
            context_lengths: [S] int32.
            logit_rows: [R] int64, the tokens whose next-token logits are wanted.
            caches: for each layer the keys, for each layer the values; of a quantised cache also
                the scales of the keys and those of the values; of latent attention the keys alone.
                Shapes as in `ir.cached`.
            image_rows: [I, hidden] in the dtype of the weights, vectors of images; of models that
                see only.
            image_index: [T] int32, the row that stands in for a token's embedding; -1 for none.

        Returns:
            Logits [R, vocab] float32 (or hidden states [R, hidden], or scores [R, labels], as the
            configuration says), and the new caches, as they came.
        """
        stack = self.model
        batch = Batch(slots, block_tables, query_starts, context_lengths)
        rotation = stack.rotary(positions)
        hidden = stack.embed_tokens(token_ids)
        if image_rows is not None and image_index is not None:
            hidden = with_image_rows(hidden, image_rows, image_index)
        new: list[tuple[Tensor, ...]] = []
        owed: Tensor | None = None
        for layer, own in zip(stack.layers, zip(*caches, strict=True), strict=True):
            hidden, written, owed = layer(hidden, rotation, batch, own, owed)
            new.append(written)
        result = logits_of_rows(hidden, logit_rows, stack.norm, self.head)
        return result, *(list(kind) for kind in zip(*new, strict=True))


def with_image_rows(hidden: Tensor, image_rows: Tensor, image_index: Tensor) -> Tensor:
    """Put rows of images in the place of embeddings: [T, hidden size]."""
    rows = functional.embedding(image_index.clamp(min=0), image_rows)
    return torch.where((image_index >= 0).unsqueeze(1), rows, hidden)


def logits_of_rows(
    hidden: Tensor, logit_rows: Tensor, norm: RootMeanSquareNorm, head: Linear | Embedding | None
) -> Tensor:
    """Give the logits [R, vocab] float32 of the chosen rows of `hidden` [T, hidden size].

    `head` is the matrix of its own or, in a tied model, the embedding; without one the hidden
    states behind the norm come back.
    """
    chosen: Tensor = norm(torch.index_select(hidden, 0, logit_rows))
    if head is None:
        return chosen.float()
    return functional.linear(chosen, head.weight).float()
