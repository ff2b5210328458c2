"""The towers of Qwen2-VL and Qwen2.5-VL in plain PyTorch, one image at a time.

Attribute names are those of Hugging Face checkpoints. Patches come in groups: those of one row of
the result, or those of one window, where windows that reach over the edge of the image are filled
up with patches that nobody looks at.

Legend: G groups, K patches of a group, P = G K patches, H heads, D head size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from banyan.models.encoder import LayerNorm
from banyan.models.layers import Linear, RootMeanSquareNorm
from banyan.models.rotary import rotate
from banyan.models.vision.configuration import GridTower
from banyan.models.vision.perceptron import Perceptron

_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class _Seen:
    """What patches see of one another.

    Attributes:
        group_size: K.
        present: [G, K] bool, false for patches that only fill up; None when all are there.
    """

    group_size: int
    present: Tensor | None


class _Attention(nn.Module):
    def __init__(self, tower: GridTower, *, in_groups: bool) -> None:
        super().__init__()
        self._num_heads, self._head_dim = tower.num_heads, tower.head_dim
        self._in_groups = in_groups
        self.qkv = Linear(tower.hidden_size, 3 * tower.hidden_size, bias=True)
        self.proj = Linear(tower.hidden_size, tower.hidden_size, bias=True)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], seen: _Seen) -> Tensor:
        joined: Tensor = self.qkv(x)
        heads = joined.reshape(-1, 3, self._num_heads, self._head_dim)
        q, k, v = heads[:, 0], heads[:, 1], heads[:, 2]
        q, k = rotate(q, *rotation), rotate(k, *rotation)
        # One text of P patches, or G texts of K patches: [G or 1, H, K or P, D].
        length = seen.group_size if self._in_groups else x.shape[0]
        q, k, v = (
            part.reshape(-1, length, self._num_heads, self._head_dim).transpose(1, 2)
            for part in (q, k, v)
        )
        visible = seen.present
        if visible is not None:
            visible = visible.reshape(-1, length).unsqueeze(1).unsqueeze(1)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        result: Tensor = self.proj(attended.transpose(1, 2).flatten(0, 1).flatten(1))
        return result


class _Gated(nn.Module):
    """The block of Qwen2.5-VL."""

    def __init__(self, tower: GridTower) -> None:
        super().__init__()
        self.gate_proj = Linear(tower.hidden_size, tower.intermediate_size, bias=True)
        self.up_proj = Linear(tower.hidden_size, tower.intermediate_size, bias=True)
        self.down_proj = Linear(tower.intermediate_size, tower.hidden_size, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return result


def _norm(tower: GridTower) -> nn.Module:
    kind = RootMeanSquareNorm if tower.kind == "qwen2_5" else LayerNorm
    return kind(tower.hidden_size, _EPSILON)


def _gated_or_plain(tower: GridTower) -> nn.Module:
    if tower.kind == "qwen2_5":
        return _Gated(tower)
    return Perceptron(tower.hidden_size, tower.intermediate_size, tower.activation)


class _Block(nn.Module):
    def __init__(self, tower: GridTower, *, in_groups: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(tower), _norm(tower)
        self.attn = _Attention(tower, in_groups=in_groups)
        self.mlp = _gated_or_plain(tower)

    def forward(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], seen: _Seen) -> Tensor:
        hidden = hidden + self.attn(self.norm1(hidden), rotation, seen)
        result: Tensor = hidden + self.mlp(self.norm2(hidden))
        return result


class _Patches(nn.Module):
    def __init__(self, tower: GridTower) -> None:
        super().__init__()
        self.proj = Linear(tower.patch_values, tower.hidden_size)


class _Merger(nn.Module):
    """Patches of one row side by side, then two matrices."""

    def __init__(self, tower: GridTower) -> None:
        super().__init__()
        self._width = merged = tower.merge**2 * tower.hidden_size
        self.ln_q = _norm(tower)
        self.mlp = nn.Sequential(
            Linear(merged, merged, bias=True),
            nn.GELU(),
            Linear(merged, tower.output_size, bias=True),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        merged = self.ln_q(hidden).reshape(-1, self._width)
        result: Tensor = self.mlp(merged)
        return result


class _Visual(nn.Module):
    """All of it; named `visual` in checkpoints."""

    inverse_frequencies: Tensor

    def __init__(self, tower: GridTower) -> None:
        super().__init__()
        self.patch_embed = _Patches(tower)
        self.blocks = nn.ModuleList(
            _Block(tower, in_groups=bool(tower.window_merges) and layer not in tower.full_layers)
            for layer in range(tower.num_layers)
        )
        self.merger = _Merger(tower)
        quarter = tower.head_dim // 4
        exponents = torch.arange(quarter, dtype=torch.float32, device="cpu") / quarter
        self.register_buffer("inverse_frequencies", 1.0 / tower.theta**exponents, persistent=False)

    def rotation(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Give cosine and sine [P, 1, D/2] of the rows and columns of patches [2, P].

        The first half of the pairs is turned by the row, the other by the column.
        """
        angles = places.float().unsqueeze(2) * self.inverse_frequencies
        both = torch.cat((angles[0], angles[1]), dim=-1).unsqueeze(1)
        return both.cos(), both.sin()


class GridVision(nn.Module):
    """Patches of one image to rows for the decoder."""

    def __init__(self, tower: GridTower) -> None:
        super().__init__()
        self.visual = _Visual(tower)

    def forward(self, patches: Tensor, places: Tensor, present: Tensor | None = None) -> Tensor:
        """Give the rows [P / merged, embedding] float32, in the order of the patches.

        Args:
            patches: [G, K, values] float32.
            places: [2, G, K] int64, row and column of each patch in the image.
            present: [G, K] int64, 0 for a patch that only fills a window; without windows absent.
        """
        visual = self.visual
        seen = _Seen(patches.shape[1], None if present is None else present != 0)
        weight = visual.patch_embed.proj.weight
        hidden = visual.patch_embed.proj(patches.flatten(0, 1).to(weight.dtype))
        rotation = visual.rotation(places.flatten(1))
        for block in visual.blocks:
            hidden = block(hidden, rotation, seen)
        rows: Tensor = visual.merger(hidden)
        return rows.float()
