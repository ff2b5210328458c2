"""How a token chooses its experts, read from config.json."""

from typing import Any

import pytest

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.experts import Routing, read_experts, with_deferred
from banyan.models.families import find_family
from banyan.models.json_fields import Fields

DEEPSEEK: dict[str, Any] = {
    "intermediate_size": 128,
    "moe_intermediate_size": 48,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "n_group": 4,
    "topk_group": 2,
    "routed_scaling_factor": 2.5,
}


def read(architecture: str, **changes: Any) -> Any:
    family = find_family(architecture)
    assert family is not None
    return read_experts(Fields({**DEEPSEEK, **changes}, "config.json"), family, 3)


def test_a_deepseek_has_dense_layers_first_and_a_block_for_every_token() -> None:
    found = read("DeepseekV3ForCausalLM", norm_topk_prob=True)
    assert found.sparse_layers == (False, True, True)
    assert (found.num_experts, found.intermediate_size, found.shared_size) == (8, 48, 96)
    assert found.routing == Routing("sigmoid", num_groups=4, top_groups=2, scale=2.5)
    assert found.normalise


def test_groups_count_only_where_the_method_goes_by_them() -> None:
    found = read("DeepseekV2ForCausalLM", topk_method="greedy")
    assert found.routing == Routing("softmax", scale=2.5)
    found = read("DeepseekV2ForCausalLM", topk_method="group_limited_greedy")
    assert found.routing.num_groups == 4


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"n_group": 3}, ModelError, "2 of 8 experts cannot be chosen from 2 of 3 groups"),
        ({"topk_group": 5}, ModelError, "from 5 of 4 groups"),
        ({"num_experts_per_tok": 5}, ModelError, "5 of 8 experts cannot be chosen from 2 of 4"),
        ({"n_group": 8}, ModelError, "from 2 of 8 groups"),
        ({"moe_layer_freq": 2}, UnsupportedModelError, "each 2th layer"),
    ],
)
def test_choices_that_nobody_can_make_are_refused(
    changes: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        read("DeepseekV3ForCausalLM", **changes)


def test_weights_that_sum_to_one_and_are_scaled_are_refused_behind_a_softmax() -> None:
    with pytest.raises(UnsupportedModelError, match="supported is one of them"):
        read("DeepseekV2ForCausalLM", norm_topk_prob=True)


def test_no_layer_defers_to_a_layer_that_is_not_there() -> None:
    experts = with_deferred(read("DeepseekV3ForCausalLM"), 1, "tiny")
    assert experts is not None
    assert [experts.is_deferring(layer) for layer in range(3)] == [False, True, False]
    assert with_deferred(experts, 0, "tiny") == experts


@pytest.mark.parametrize("deferred", [2, 3])
def test_at_least_one_expert_counts_at_once(deferred: int) -> None:
    with pytest.raises(ModelError, match="a token of tiny visits 2, of which at least one has to"):
        with_deferred(read("DeepseekV3ForCausalLM"), deferred, "tiny")


def test_a_dense_model_has_nothing_to_defer() -> None:
    with pytest.raises(ModelError, match="tiny has no experts that could be deferred"):
        with_deferred(None, 1, "tiny")
