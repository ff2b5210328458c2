"""The tower of LLaVA 1.5 in plain PyTorch: CLIP over a square image, then two matrices.

Attribute names are those of Hugging Face checkpoints.

Legend: N images, P patches, H heads, D head size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from banyan.models.encoder import LayerNorm
from banyan.models.layers import Embedding, Linear
from banyan.models.vision.configuration import SquareTower
from banyan.models.vision.perceptron import Perceptron, activate


class _Attention(nn.Module):
    def __init__(self, tower: SquareTower) -> None:
        super().__init__()
        self._head_dim = tower.head_dim
        size = tower.hidden_size
        self.q_proj = Linear(size, size, bias=True)
        self.k_proj = Linear(size, size, bias=True)
        self.v_proj = Linear(size, size, bias=True)
        self.out_proj = Linear(size, size, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            projection(x).unflatten(-1, (-1, self._head_dim)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = functional.scaled_dot_product_attention(q, k, v)
        result: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return result


class _Layer(nn.Module):
    def __init__(self, tower: SquareTower) -> None:
        super().__init__()
        self.layer_norm1 = LayerNorm(tower.hidden_size, tower.norm_epsilon)
        self.self_attn = _Attention(tower)
        self.layer_norm2 = LayerNorm(tower.hidden_size, tower.norm_epsilon)
        self.mlp = Perceptron(tower.hidden_size, tower.intermediate_size, tower.activation)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.self_attn(self.layer_norm1(hidden))
        result: Tensor = hidden + self.mlp(self.layer_norm2(hidden))
        return result


class _Embeddings(nn.Module):
    def __init__(self, tower: SquareTower) -> None:
        super().__init__()
        size = tower.hidden_size
        self.class_embedding = nn.Parameter(torch.empty(size), requires_grad=False)
        self.patch_embedding = Linear(tower.patch_values, size)
        self.position_embedding = Embedding(tower.side_patches**2 + 1, size)

    def forward(self, patches: Tensor) -> Tensor:
        """Give [N, 1 + P, hidden]: the class token, then the patches."""
        embedded = self.patch_embedding(patches.to(self.class_embedding.dtype))
        first = self.class_embedding.expand(embedded.shape[0], 1, -1)
        together = torch.cat((first, embedded), dim=1)
        result: Tensor = together + self.position_embedding.weight
        return result


class _Stack(nn.Module):
    def __init__(self, tower: SquareTower) -> None:
        super().__init__()
        # Layers behind the last one that is looked at are never run.
        self.layers = nn.ModuleList(_Layer(tower) for _ in range(max(tower.feature_layers)))


class _Tower(nn.Module):
    """CLIP; named `vision_tower` in checkpoints, and the first norm as the first release did."""

    def __init__(self, tower: SquareTower) -> None:
        super().__init__()
        self.embeddings = _Embeddings(tower)
        self.pre_layrnorm = LayerNorm(tower.hidden_size, tower.norm_epsilon)
        self.encoder = _Stack(tower)

    def forward(self, patches: Tensor) -> list[Tensor]:
        """Give the hidden states before the first layer and after each."""
        states: list[Tensor] = [self.pre_layrnorm(self.embeddings(patches))]
        for layer in self.encoder.layers:
            states.append(layer(states[-1]))
        return states


class _Projector(nn.Module):
    """From CLIP to the decoder; named `multi_modal_projector` in checkpoints."""

    def __init__(self, tower: SquareTower) -> None:
        super().__init__()
        self._activation = tower.projector_activation
        size = tower.hidden_size * len(tower.feature_layers)
        bias = tower.projector_bias
        self.linear_1 = Linear(size, tower.output_size, bias=bias)
        self.linear_2 = Linear(tower.output_size, tower.output_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear_2(activate(self.linear_1(x), self._activation))
        return result


class SquareVision(nn.Module):
    """Patches of square images to rows for the decoder."""

    def __init__(self, tower: SquareTower) -> None:
        super().__init__()
        self._feature_layers = tower.feature_layers
        self._first = 0 if tower.keeps_class else 1
        self.vision_tower = _Tower(tower)
        self.multi_modal_projector = _Projector(tower)

    def forward(self, patches: Tensor) -> Tensor:
        """Give the rows [N, rows, embedding] float32.

        Args:
            patches: [N, P, values] float32.
        """
        states = self.vision_tower(patches)
        chosen = [states[count][:, self._first :] for count in self._feature_layers]
        features = chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=-1)
        rows: Tensor = self.multi_modal_projector(features)
        return rows.float()
