"""Mixtures of experts as data: which layers have experts, and how a token chooses among them.

Imports no torch. Called by `configuration`; `mixture_of_experts` computes what is said here.
"""

from dataclasses import dataclass, replace
from typing import Literal

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.families import ExpertNames, Family
from banyan.models.json_fields import Fields

Scores = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, slots=True)
class Routing:
    """How a token chooses its experts (DeepSeek-AI, arXiv:2405.04434 and arXiv:2412.19437).

    Attributes:
        scores: "softmax" over all experts; or "sigmoid" of each, with a learned number added to it
            for the choice only.
        num_groups: experts are chosen out of the best groups of so many; a group is as good as its
            best expert, or, of sigmoids, its best two.
        top_groups: how many groups remain.
        scale: factor on the weights of the chosen.
    """

    scores: Scores = "softmax"
    num_groups: int = 1
    top_groups: int = 1
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Experts:
    """The sparse feed-forward blocks of a mixture of experts.

    `sparse_layers` says for each layer whether its block is sparse; `normalise` makes the weights
    of the `top_k` chosen experts sum to one. Every token also visits a dense block of
    `shared_size`, where that is not 0. `deferred` of the chosen experts, those chosen last, count
    one layer later than the others (expert deferral; KTransformers, SOSP 2025).
    """

    num_experts: int
    top_k: int
    intermediate_size: int
    normalise: bool
    sparse_layers: tuple[bool, ...]
    names: ExpertNames
    routing: Routing = Routing()
    shared_size: int = 0
    deferred: int = 0

    def is_deferring(self, layer: int) -> bool:
        """Whether some experts of a layer count in the next one; there is none behind the last."""
        is_last = layer == len(self.sparse_layers) - 1
        return self.deferred > 0 and self.sparse_layers[layer] and not is_last


def with_deferred(experts: Experts | None, deferred: int, model: str) -> Experts | None:
    """The same experts, of which each token's `deferred` last ones count one layer later.

    Raises:
        ModelError: `model` has no experts, or none would be left for their own layer.
    """
    if deferred == 0:
        return experts
    if experts is None:
        raise ModelError(f"{model} has no experts that could be deferred; leave that out")
    if not 0 < deferred < experts.top_k:
        raise ModelError(
            f"{deferred} experts cannot be deferred: a token of {model} visits {experts.top_k}, of "
            "which at least one has to count at once; defer fewer"
        )
    return replace(experts, deferred=deferred)


def read_experts(fields: Fields, family: Family, num_layers: int) -> Experts | None:
    """Read the experts of a config.json; None for a dense family.

    Raises:
        ModelError: a field is missing or contradicts another.
        UnsupportedModelError: a way to choose that is not known.
    """
    if family.experts is None:
        return None
    counts = ("n_routed_experts", "num_experts", "num_local_experts")
    num_experts = fields.integer(next((n for n in counts if fields.has(n)), "num_experts"))
    top_k = fields.integer("num_experts_per_tok")
    if top_k > num_experts:
        raise ModelError(
            f"{fields.origin}: num_experts_per_tok {top_k} is above the {num_experts} experts"
        )
    size = fields.integer("moe_intermediate_size", fields.integer("intermediate_size"))
    return Experts(
        num_experts=num_experts,
        top_k=top_k,
        intermediate_size=size,
        normalise=family.always_normalise or fields.flag("norm_topk_prob", False),
        sparse_layers=_sparse_layers(fields, num_layers),
        names=family.experts,
        routing=_read_routing(fields, family.expert_scores, num_experts, top_k),
        shared_size=size * fields.integer("n_shared_experts", 0, minimum=0),
    )


def _sparse_layers(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    step = fields.integer("decoder_sparse_step", 1)
    dense_layers = fields.integers("mlp_only_layers")
    first = fields.integer("first_k_dense_replace", 0, minimum=0)
    if fields.integer("moe_layer_freq", 1) != 1:
        raise UnsupportedModelError(
            f"{fields.origin} has experts in each {fields.integer('moe_layer_freq')}th layer "
            "(moe_layer_freq); supported is 1"
        )
    return tuple(
        layer >= first and layer not in dense_layers and (layer + 1) % step == 0
        for layer in range(num_layers)
    )


def _read_routing(fields: Fields, scores: Scores, num_experts: int, top_k: int) -> Routing:
    scale = fields.number("routed_scaling_factor", 1.0)
    groups = fields.integer("n_group", 1)
    kept = fields.integer("topk_group", groups)
    if fields.text("topk_method", "") == "greedy":
        groups = kept = 1
    enough = num_experts % groups == 0 and top_k <= kept * (num_experts // groups)
    if not enough or kept > groups or (scores == "sigmoid" and num_experts // groups < 2):
        raise ModelError(
            f"{fields.origin}: {top_k} of {num_experts} experts cannot be chosen from {kept} of "
            f"{groups} groups (n_group, topk_group)"
        )
    if scores == "softmax" and scale != 1.0 and fields.flag("norm_topk_prob", False):
        raise UnsupportedModelError(
            f"{fields.origin} asks for weights of experts that sum to one (norm_topk_prob) and are "
            f"scaled by {scale} (routed_scaling_factor); supported is one of them"
        )
    return Routing(scores, groups, kept, scale)
