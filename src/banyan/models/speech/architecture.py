"""Whisper in plain PyTorch: an encoder of sound, and one step of a decoder of text.

Attribute names are those of Hugging Face checkpoints. The encoder also makes the keys and values
that every layer of the decoder looks up; they lie in a paged cache of their own, so that a step of
the decoder serves many sounds at once. Every new token looks them up as a sequence of its own: it
sees all of its sound, not only what is before it.

Legend: T new tokens, S sequences, F frames of the encoder, H heads, D head size, M mel bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from banyan.models.encoder import LayerNorm
from banyan.models.layers import Embedding, Linear
from banyan.models.speech.configuration import SpeechConfiguration

_EPSILON = 1e-5


class _Attention(nn.Module):
    """The four matrices of an attention; only the keys have no bias."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, size // num_heads
        self.k_proj = Linear(size, size)
        self.v_proj = Linear(size, size, bias=True)
        self.q_proj = Linear(size, size, bias=True)
        self.out_proj = Linear(size, size, bias=True)

    def heads(self, x: Tensor) -> Tensor:
        """Split the last dim into heads: [..., H, D]."""
        result: Tensor = x.unflatten(-1, (self.num_heads, self.head_dim))  # type: ignore[no-untyped-call]
        return result


class _FeedForwardLayer(nn.Module):
    """What layers of both sides share: a norm, two matrices, and a norm before all of it."""

    def __init__(self, size: int, inner: int, num_heads: int) -> None:
        super().__init__()
        self.self_attn = _Attention(size, num_heads)
        self.self_attn_layer_norm = LayerNorm(size, _EPSILON)
        self.fc1 = Linear(size, inner, bias=True)
        self.fc2 = Linear(inner, size, bias=True)
        self.final_layer_norm = LayerNorm(size, _EPSILON)

    def transform(self, hidden: Tensor) -> Tensor:
        """Add the two matrices to the stream."""
        inner = functional.gelu(self.fc1(self.final_layer_norm(hidden)))
        result: Tensor = hidden + self.fc2(inner)
        return result


class _EncoderLayer(_FeedForwardLayer):
    def forward(self, hidden: Tensor) -> Tensor:
        own = self.self_attn
        x = self.self_attn_layer_norm(hidden)
        q, k, v = (own.heads(p(x)).transpose(1, 2) for p in (own.q_proj, own.k_proj, own.v_proj))
        attended = functional.scaled_dot_product_attention(q, k, v)
        hidden = hidden + own.out_proj(attended.transpose(1, 2).flatten(2))
        return self.transform(hidden)


class _Convolution(nn.Module):
    """Three neighbours at a time."""

    def __init__(self, num_inputs: int, num_outputs: int, *, stride: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_outputs, num_inputs, 3), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(num_outputs), requires_grad=False)
        self._stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv1d(x, self.weight, self.bias, stride=self._stride, padding=1)


class _Encoder(nn.Module):
    def __init__(self, configuration: SpeechConfiguration) -> None:
        super().__init__()
        c = configuration
        self.conv1 = _Convolution(c.num_mel_bins, c.hidden_size, stride=1)
        self.conv2 = _Convolution(c.hidden_size, c.hidden_size, stride=2)
        self.embed_positions = Embedding(c.num_frames, c.hidden_size)
        self.layers = nn.ModuleList(
            _EncoderLayer(c.hidden_size, c.encoder_inner, c.encoder_heads)
            for _ in range(c.encoder_layers)
        )
        self.layer_norm = LayerNorm(c.hidden_size, _EPSILON)

    def forward(self, features: Tensor) -> Tensor:
        x = functional.gelu(self.conv1(features))
        x = functional.gelu(self.conv2(x))
        hidden = x.transpose(1, 2) + self.embed_positions.weight
        for layer in self.layers:
            hidden = layer(hidden)
        result: Tensor = self.layer_norm(hidden)
        return result


class _DecoderLayer(_FeedForwardLayer):
    def __init__(self, size: int, inner: int, num_heads: int) -> None:
        super().__init__(size, inner, num_heads)
        self.encoder_attn = _Attention(size, num_heads)
        self.encoder_attn_layer_norm = LayerNorm(size, _EPSILON)


class _Decoder(nn.Module):
    def __init__(self, configuration: SpeechConfiguration) -> None:
        super().__init__()
        c = configuration
        self.embed_tokens = Embedding(c.vocab_size, c.hidden_size)
        self.embed_positions = Embedding(c.max_tokens, c.hidden_size)
        self.layers = nn.ModuleList(
            _DecoderLayer(c.hidden_size, c.decoder_inner, c.decoder_heads)
            for _ in range(c.decoder_layers)
        )
        self.layer_norm = LayerNorm(c.hidden_size, _EPSILON)


class _Parts(nn.Module):
    """Both sides, named `model` in checkpoints."""

    def __init__(self, configuration: SpeechConfiguration) -> None:
        super().__init__()
        self.encoder = _Encoder(configuration)
        self.decoder = _Decoder(configuration)


class SoundEncoder(nn.Module):
    """Features of one window to what the decoder's layers look up."""

    def __init__(self, configuration: SpeechConfiguration) -> None:
        super().__init__()
        self.model = _Parts(configuration)

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Give keys and values of each decoder layer in turn, each [F, H, D].

        Args:
            features: [1, M, 2 F] float32.
        """
        encoder, decoder = self.model.encoder, self.model.decoder
        hidden = encoder(features.to(encoder.conv1.weight.dtype))[0]
        results: list[Tensor] = []
        for layer in decoder.layers:
            assert isinstance(layer, _DecoderLayer)
            cross = layer.encoder_attn
            results += [cross.heads(cross.k_proj(hidden)), cross.heads(cross.v_proj(hidden))]
        return tuple(results)


@dataclass(frozen=True, slots=True)
class CacheArguments:
    """Where tokens are written, and what each sequence or token sees; see `TextDecoder.forward`."""

    slots: Tensor
    block_tables: Tensor
    query_starts: Tensor
    context_lengths: Tensor
    sound_tables: Tensor
    sound_starts: Tensor
    sound_lengths: Tensor


class TextDecoder(nn.Module):
    """One step of the decoder over many sequences."""

    def __init__(self, configuration: SpeechConfiguration) -> None:
        super().__init__()
        self.model = _Parts(configuration)
        size = configuration.hidden_size
        self._scale = size**0.5 if configuration.scales_embedding else 1.0

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        slots: Tensor,
        block_tables: Tensor,
        query_starts: Tensor,
        context_lengths: Tensor,
        sound_tables: Tensor,
        sound_starts: Tensor,
        sound_lengths: Tensor,
        logit_rows: Tensor,
        caches: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Give the logits [R, vocab] float32, then the new keys and values of each layer in turn.

        Args:
            token_ids: [T] int64; the next five are those of `models.decoder.Decoder`.
            positions: [T] int64.
            slots: [T] int64.
            block_tables: [S, B] int32.
            query_starts: [S + 1] int32.
            context_lengths: [S] int32.
            sound_tables: [T, F / 16] int32, the blocks of the sound that each token looks up.
            sound_starts: [T + 1] int32, 0, 1, 2, ...
            sound_lengths: [T] int32, F each.
            logit_rows: [R] int64.
            caches: for each layer keys and values of the text, keys and values of the sound.
        """
        where = CacheArguments(
            slots,
            block_tables,
            query_starts,
            context_lengths,
            sound_tables,
            sound_starts,
            sound_lengths,
        )
        decoder = self.model.decoder
        hidden = decoder.embed_tokens(token_ids) * self._scale
        hidden = hidden + decoder.embed_positions(positions)
        written: list[Tensor] = []
        for number, layer in enumerate(decoder.layers):
            own = tuple(caches[4 * number : 4 * number + 4])
            hidden, keys, values = _decode(layer, hidden, where, own)
            written += [keys, values]
        chosen = decoder.layer_norm(torch.index_select(hidden, 0, logit_rows))
        logits = functional.linear(chosen, decoder.embed_tokens.weight).float()
        return logits, *written


def _decode(
    layer: nn.Module, hidden: Tensor, where: CacheArguments, caches: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer: the text so far, the sound, two matrices."""
    assert isinstance(layer, _DecoderLayer)
    own, cross = layer.self_attn, layer.encoder_attn
    scale = own.head_dim**-0.5
    x = layer.self_attn_layer_norm(hidden)
    q, k, v = (own.heads(p(x)) for p in (own.q_proj, own.k_proj, own.v_proj))
    keys = torch.ops.banyan.cache_write_keys(caches[0], k, where.slots)
    values = torch.ops.banyan.cache_write_values(caches[1], v, where.slots)
    tables = (where.block_tables, where.query_starts, where.context_lengths)
    attended = torch.ops.banyan.paged_attention(q, keys, values, *tables, scale, 0)
    hidden = hidden + own.out_proj(attended.flatten(1))
    q = cross.heads(cross.q_proj(layer.encoder_attn_layer_norm(hidden)))
    tables = (where.sound_tables, where.sound_starts, where.sound_lengths)
    attended = torch.ops.banyan.paged_attention(q, caches[2], caches[3], *tables, scale, 0)
    hidden = hidden + cross.out_proj(attended.flatten(1))
    return layer.transform(hidden), keys, values
