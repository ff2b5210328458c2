"""The encoder of the BERT family, for embeddings and, with a head for labels, for scores.

Norms come after each block, positions are absolute, every token sees every token of its text.
Attribute names are those of Hugging Face checkpoints.

Legend: B texts, T tokens of the longest text, H heads, D head size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from banyan.models.configuration import EncoderConfiguration
from banyan.models.layers import Embedding, Linear


class LayerNorm(nn.Module):
    """Mean and variance normalised, then scaled and shifted."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(size), requires_grad=False)
        self._epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dim."""
        return functional.layer_norm(
            x, self.weight.shape, self.weight, self.bias, eps=self._epsilon
        )


class _Embeddings(nn.Module):
    def __init__(self, configuration: EncoderConfiguration) -> None:
        super().__init__()
        c = configuration
        self.word_embeddings = Embedding(c.vocab_size, c.hidden_size)
        self._first_position = c.first_position
        self.position_embeddings = Embedding(c.max_position_embeddings, c.hidden_size)
        self.token_type_embeddings = Embedding(c.num_token_types, c.hidden_size)
        self.LayerNorm = LayerNorm(c.hidden_size, c.norm_epsilon)

    def forward(self, token_ids: Tensor, token_types: Tensor) -> Tensor:
        # Positions follow one another: neighbouring rows of the table, no lookup needed.
        first = self._first_position
        positions = self.position_embeddings.weight[first : first + token_ids.shape[1]]
        words = self.word_embeddings(token_ids) + self.token_type_embeddings(token_types)
        result: Tensor = self.LayerNorm(words + positions)
        return result


class _SelfAttention(nn.Module):
    def __init__(self, configuration: EncoderConfiguration) -> None:
        super().__init__()
        c = configuration
        self._head_dim = c.head_dim
        self.query = Linear(c.hidden_size, c.hidden_size, bias=True)
        self.key = Linear(c.hidden_size, c.hidden_size, bias=True)
        self.value = Linear(c.hidden_size, c.hidden_size, bias=True)

    def forward(self, hidden: Tensor, visible: Tensor) -> Tensor:
        q, k, v = (
            projection(hidden).unflatten(-1, (-1, self._head_dim)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        return attended.transpose(1, 2).flatten(2)


class _Residual(nn.Module):
    """A matrix, then the stream is added and normalised."""

    def __init__(self, num_inputs: int, configuration: EncoderConfiguration) -> None:
        super().__init__()
        c = configuration
        self.dense = Linear(num_inputs, c.hidden_size, bias=True)
        self.LayerNorm = LayerNorm(c.hidden_size, c.norm_epsilon)

    def forward(self, x: Tensor, stream: Tensor) -> Tensor:
        result: Tensor = self.LayerNorm(self.dense(x) + stream)
        return result


class _Attention(nn.Module):
    def __init__(self, configuration: EncoderConfiguration) -> None:
        super().__init__()
        self.self = _SelfAttention(configuration)
        self.output = _Residual(configuration.hidden_size, configuration)

    def forward(self, hidden: Tensor, visible: Tensor) -> Tensor:
        result: Tensor = self.output(self.self(hidden, visible), hidden)
        return result


class _Intermediate(nn.Module):
    def __init__(self, configuration: EncoderConfiguration) -> None:
        super().__init__()
        c = configuration
        self._approximate = "tanh" if c.activation == "gelu_tanh" else "none"
        self.dense = Linear(c.hidden_size, c.intermediate_size, bias=True)

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.gelu(self.dense(hidden), approximate=self._approximate)


class _EncoderLayer(nn.Module):
    def __init__(self, configuration: EncoderConfiguration) -> None:
        super().__init__()
        self.attention = _Attention(configuration)
        self.intermediate = _Intermediate(configuration)
        self.output = _Residual(configuration.intermediate_size, configuration)

    def forward(self, hidden: Tensor, visible: Tensor) -> Tensor:
        attended = self.attention(hidden, visible)
        result: Tensor = self.output(self.intermediate(attended), attended)
        return result


class _EncoderStack(nn.Module):
    def __init__(self, configuration: EncoderConfiguration) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            _EncoderLayer(configuration) for _ in range(configuration.num_layers)
        )


class Encoder(nn.Module):
    """A BERT-family encoder; pooling is in `banyan.models.pooling`."""

    def __init__(self, configuration: EncoderConfiguration) -> None:
        super().__init__()
        self.embeddings = _Embeddings(configuration)
        self.encoder = _EncoderStack(configuration)

    def forward(self, token_ids: Tensor, attention_mask: Tensor, token_types: Tensor) -> Tensor:
        """Give a vector per token.

        Args:
            token_ids: [B, T] int64.
            attention_mask: [B, T] int64, 1 for a token and 0 for padding.
            token_types: [B, T] int64, 0 for a single text.

        Returns:
            Hidden states [B, T, hidden] float32.
        """
        return self.states(token_ids, attention_mask, token_types).float()

    def states(self, token_ids: Tensor, attention_mask: Tensor, token_types: Tensor) -> Tensor:
        """Give the vectors in the dtype of the weights."""
        visible = attention_mask.unsqueeze(1).unsqueeze(1) != 0
        hidden: Tensor = self.embeddings(token_ids, token_types)
        for layer in self.encoder.layer:
            hidden = layer(hidden, visible)
        return hidden


class _Pooler(nn.Module):
    def __init__(self, configuration: EncoderConfiguration) -> None:
        super().__init__()
        self.dense = Linear(configuration.hidden_size, configuration.hidden_size, bias=True)

    def forward(self, first: Tensor) -> Tensor:
        return torch.tanh(self.dense(first))


class _TwoMatrices(nn.Module):
    """The head of RoBERTa."""

    def __init__(self, configuration: EncoderConfiguration, num_labels: int) -> None:
        super().__init__()
        self.dense = Linear(configuration.hidden_size, configuration.hidden_size, bias=True)
        self.out_proj = Linear(configuration.hidden_size, num_labels, bias=True)

    def forward(self, first: Tensor) -> Tensor:
        scores: Tensor = self.out_proj(torch.tanh(self.dense(first)))
        return scores


class LabelledEncoder(Encoder):
    """An encoder with a head that scores the labels from the vector of the first token."""

    def __init__(self, configuration: EncoderConfiguration) -> None:
        super().__init__(configuration)
        assert configuration.classifier is not None, "this encoder has no labels"
        num_labels = len(configuration.classifier.labels)
        if configuration.head == "roberta":
            self.pooler: nn.Module = nn.Identity()
            self.classifier: nn.Module = _TwoMatrices(configuration, num_labels)
        else:
            self.pooler = _Pooler(configuration)
            self.classifier = Linear(configuration.hidden_size, num_labels, bias=True)

    def forward(self, token_ids: Tensor, attention_mask: Tensor, token_types: Tensor) -> Tensor:
        """Give the raw scores [B, labels] float32; the arguments are those of `Encoder`."""
        hidden = self.states(token_ids, attention_mask, token_types)
        scores: Tensor = self.classifier(self.pooler(hidden[:, 0]))
        return scores.float()
