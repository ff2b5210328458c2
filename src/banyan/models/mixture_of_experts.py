"""A feed-forward block of many experts, of which each token uses a few.

Legend: T tokens, K experts chosen per token, R = T * K rows, E experts.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Imported for its effect: it registers torch.ops.banyan.
from banyan.compiler.capture import torch_operations as _torch_operations  # noqa: F401
from banyan.models.experts import Experts
from banyan.models.layers import Float32Parameter, GatedBlock


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


class Router(nn.Module):
    """Which experts a token visits, and how much each counts."""

    def __init__(self, experts: Experts, hidden_size: int) -> None:
        super().__init__()
        self._top_k, self._normalise = experts.top_k, experts.normalise
        self._routing = experts.routing
        self.weight = nn.Parameter(
            torch.empty(experts.num_experts, hidden_size), requires_grad=False
        )
        if experts.routing.scores == "sigmoid":
            self.e_score_correction_bias = Float32Parameter(
                torch.empty(experts.num_experts), requires_grad=False
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give weights [T, K] float32 and experts [T, K] int64 of `x` [T, hidden]."""
        routing = self._routing
        if routing.scores == "softmax":
            scores = functional.softmax(functional.linear(x, self.weight).float(), dim=-1)
            weights, chosen = torch.topk(self._of_best_groups(scores, 0.0), self._top_k, dim=-1)
        else:
            # As it was trained: in float32, for the choice among many is close.
            scores = functional.linear(x.float(), self.weight.float()).sigmoid()
            judged = scores + self.e_score_correction_bias
            chosen = torch.topk(
                self._of_best_groups(judged, float("-inf")), self._top_k, dim=-1
            ).indices
            weights = scores.gather(1, chosen)
        if self._normalise:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return (weights if routing.scale == 1.0 else weights * routing.scale), chosen

    def _of_best_groups(self, scores: Tensor, hidden: float) -> Tensor:
        """Scores [T, E] with `hidden` for experts of groups that are not among the best."""
        routing = self._routing
        if routing.top_groups == routing.num_groups:
            return scores
        by_group = scores.view(scores.shape[0], routing.num_groups, -1)
        if routing.scores == "softmax":
            of_groups = by_group.amax(dim=-1)
        else:
            of_groups = torch.topk(by_group, 2, dim=-1).values.sum(dim=-1)
        best = torch.topk(of_groups, routing.top_groups, dim=-1).indices
        groups = torch.arange(routing.num_groups, device=scores.device)
        is_best = (best.unsqueeze(-1) == groups).any(dim=1)
        return torch.where(is_best.unsqueeze(-1), by_group, hidden).flatten(1)


class MixtureOfExperts(nn.Module):
    """Router, chosen experts, and the weighted sum of what they say."""

    def __init__(self, experts: Experts, hidden_size: int) -> None:
        super().__init__()
        self._top_k, self._deferred = experts.top_k, experts.deferred
        self._names = experts.names
        num_experts, inner = experts.num_experts, experts.intermediate_size
        self.gate = Router(experts, hidden_size)
        # Named after the checkpoint: P.experts.gate_proj.weight or P.experts.w1.weight.
        self.experts = nn.ModuleDict(
            {
                experts.names.gate: _ExpertMatrices(num_experts, hidden_size, inner),
                experts.names.up: _ExpertMatrices(num_experts, hidden_size, inner),
                experts.names.down: _ExpertMatrices(num_experts, inner, hidden_size),
            }
        )
        self.shared_experts: nn.Module | None = None
        if experts.shared_size:
            self.shared_experts = GatedBlock(hidden_size, experts.shared_size)

    def forward(self, x: Tensor) -> Tensor:
        """Transform [T, hidden] to [T, hidden]."""
        return self._with_shared(x, self._mixed(x, *self.gate(x)))

    def parted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What [T, hidden] becomes now, and what the deferred experts add to that: both alike."""
        weights_TK, experts_TK = self.gate(x)
        at_once = self._top_k - self._deferred
        now = self._mixed(x, weights_TK[:, :at_once], experts_TK[:, :at_once])
        later = self._mixed(x, weights_TK[:, at_once:], experts_TK[:, at_once:])
        return self._with_shared(x, now), later

    def _mixed(self, x: Tensor, weights_TK: Tensor, experts_TK: Tensor) -> Tensor:
        """The weighted sum of what K experts of each token say."""
        per_token = experts_TK.shape[1]
        rows = x.unsqueeze(1).expand(-1, per_token, -1).reshape(-1, x.shape[-1])
        experts_R = experts_TK.reshape(-1)
        gated = functional.silu(self.experts[self._names.gate](rows, experts_R))
        inner = gated * self.experts[self._names.up](rows, experts_R)
        outputs = self.experts[self._names.down](inner, experts_R)
        outputs = outputs.reshape(-1, per_token, x.shape[-1]).float()
        mixed: Tensor = (outputs * weights_TK.unsqueeze(-1)).sum(dim=1)
        return mixed.to(x.dtype)

    def _with_shared(self, x: Tensor, mixed: Tensor) -> Tensor:
        return mixed if self.shared_experts is None else mixed + self.shared_experts(x)
