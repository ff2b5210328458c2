"""A feed-forward block of many experts, of which each token uses a few.

Legend: T tokens, K experts chosen per token, R = T * K rows, E experts.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Imported for its effect: it registers torch.ops.banyan.
from banyan.compiler.capture import torch_operations as _torch_operations  # noqa: F401
from banyan.models.configuration import Experts
from banyan.models.layers import Linear


class _ExpertMatrices(nn.Module):
    """The same matrix of every expert, stacked: [E, outputs, inputs]."""

    def __init__(self, num_experts: int, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.empty(num_experts, num_outputs, num_inputs), requires_grad=False
        )

    def forward(self, rows: Tensor, experts: Tensor) -> Tensor:
        result: Tensor = torch.ops.banyan.grouped_linear(rows, self.weight, experts)
        return result


class MixtureOfExperts(nn.Module):
    """Router, chosen experts, and the weighted sum of what they say."""

    def __init__(self, experts: Experts, hidden_size: int) -> None:
        super().__init__()
        self._top_k = experts.top_k
        self._normalise = experts.normalise
        self._names = experts.names
        num_experts, inner = experts.num_experts, experts.intermediate_size
        self.gate = Linear(hidden_size, num_experts)
        # Named after the checkpoint: P.experts.gate_proj.weight or P.experts.w1.weight.
        self.experts = nn.ModuleDict(
            {
                experts.names.gate: _ExpertMatrices(num_experts, hidden_size, inner),
                experts.names.up: _ExpertMatrices(num_experts, hidden_size, inner),
                experts.names.down: _ExpertMatrices(num_experts, inner, hidden_size),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform [T, hidden] to [T, hidden]."""
        probabilities = functional.softmax(self.gate(x).float(), dim=-1)
        weights_TK, experts_TK = torch.topk(probabilities, self._top_k, dim=-1)
        if self._normalise:
            weights_TK = weights_TK / weights_TK.sum(dim=-1, keepdim=True)
        rows = x.unsqueeze(1).expand(-1, self._top_k, -1).reshape(-1, x.shape[-1])
        experts_R = experts_TK.reshape(-1)
        gated = functional.silu(self.experts[self._names.gate](rows, experts_R))
        inner = gated * self.experts[self._names.up](rows, experts_R)
        outputs = self.experts[self._names.down](inner, experts_R)
        outputs = outputs.reshape(-1, self._top_k, x.shape[-1]).float()
        mixed: Tensor = (outputs * weights_TK.unsqueeze(-1)).sum(dim=1)
        return mixed.to(x.dtype)
