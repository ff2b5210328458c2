"""Heads that guess tokens, as PyTorch modules: Medusa and EAGLE.

Parameters are named as in the heads' files. Legend: T tokens, S sequences, R rows that guess, N
heads, H hidden size, V words.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from banyan.models.decoder import DecoderLayer
from banyan.models.heads.reading import EagleHead, MedusaHeads
from banyan.models.layers import Batch, Embedding, Linear
from banyan.models.rotary import Rotary


def likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest word (int64) of each row of the last dim, and its probability (float32)."""
    wide = logits.float()
    best = wide.max(dim=-1, keepdim=True).values
    chances = 1.0 / torch.exp(wide - best).sum(dim=-1)
    return wide.argmax(dim=-1), chances


class ResidualBlock(nn.Module):
    """x + silu(linear(x))."""

    def __init__(self, size: int, *, has_bias: bool) -> None:
        super().__init__()
        self.linear = Linear(size, size, bias=has_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Transform [S, H] to [S, H]."""
        result: Tensor = x + functional.silu(self.linear(x))
        return result


class Medusa(nn.Module):
    """Several heads on one hidden state; head i guesses the token i + 2 places behind it."""

    def __init__(self, heads: MedusaHeads) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                *(
                    ResidualBlock(heads.hidden_size, has_bias=heads.has_bias)
                    for _ in range(heads.num_layers)
                ),
                Linear(heads.hidden_size, heads.vocab_size),
            )
            for _ in range(heads.num_heads)
        )

    def logits(self, hidden: Tensor) -> list[Tensor]:
        """What each head thinks of every word: N times [S, V], for states [S, H]."""
        return [head(hidden) for head in self.heads]

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Guess from states [S, H] float32: words [S, N] and their probabilities [S, N]."""
        rows = hidden.to(next(self.parameters()).dtype)
        found = [likeliest(logits) for logits in self.logits(rows)]
        words, chances = zip(*found, strict=True)
        return torch.stack(words, dim=1), torch.stack(chances, dim=1)


class Eagle(nn.Module):
    """Decoder layers over [embedding of a token; hidden state in front of it]."""

    def __init__(self, head: EagleHead) -> None:
        super().__init__()
        c = head.layers
        self.fc = Linear(2 * c.hidden_size, c.hidden_size, bias=head.has_bias)
        self.layers = nn.ModuleList(DecoderLayer(c, layer) for layer in range(c.num_layers))
        # What comes out of `fc` is read as it is.
        self.layers[0].input_layernorm = nn.Identity()
        self.rotary = Rotary(c.rope, c.head_dim)
        # Both are the decoder's.
        self.embed_tokens = Embedding(c.vocab_size, c.hidden_size)
        self.lm_head = None if head.tie_embeddings else Linear(c.hidden_size, c.vocab_size)

    def states(
        self,
        token_ids: Tensor,
        hidden: Tensor,
        positions: Tensor,
        batch: Batch,
        caches: Sequence[tuple[Tensor, ...]],
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Guessed hidden states [T, H], one place on, and the new caches of each layer."""
        rotation = self.rotary(positions)
        embedded = self.embed_tokens(token_ids)
        stream = self.fc(torch.cat((embedded, hidden.to(embedded.dtype)), dim=-1))
        new = []
        for layer, own in zip(self.layers, caches, strict=True):
            stream, written, _ = layer(stream, rotation, batch, own)
            new.append(written)
        return stream, new

    def logits(self, states: Tensor) -> Tensor:
        """What it thinks of every word [R, V] behind guessed states [R, H]."""
        matrix = self.embed_tokens if self.lm_head is None else self.lm_head
        return functional.linear(states, matrix.weight)

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        slots: Tensor,
        block_tables: Tensor,
        query_starts: Tensor,
        context_lengths: Tensor,
        logit_rows: Tensor,
        hidden: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Read tokens, each with the hidden state [T, H] float32 of the token in front of it.

        The other arguments are those of `Decoder.forward`, for caches of its own.

        Returns:
            For the rows asked for the guessed words [R], their probabilities [R] and the states
            [R, H] float32 to guess on from; then the caches as they came.
        """
        batch = Batch(slots, block_tables, query_starts, context_lengths)
        caches = list(zip(keys, values, strict=True))
        states, new = self.states(token_ids, hidden, positions, batch, caches)
        chosen = torch.index_select(states, 0, logit_rows)
        words, chances = likeliest(self.logits(chosen))
        new_keys, new_values = ([pair[kind] for pair in new] for kind in (0, 1))
        return words, chances, chosen.float(), new_keys, new_values
