import pytest
import torch
from torch import Tensor
from torch.nn import functional

from banyan.models.experts import Experts, Routing
from banyan.models.families import ExpertNames
from banyan.models.mixture_of_experts import MixtureOfExperts, Router


def make_mixture(*, normalise: bool) -> MixtureOfExperts:
    names = ExpertNames("mlp", "gate_proj", "up_proj", "down_proj")
    mixture = MixtureOfExperts(Experts(4, 2, 6, normalise, (True,), names), 8)
    generator = torch.Generator().manual_seed(1)
    for parameter in mixture.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return mixture


def expected(mixture: MixtureOfExperts, x: Tensor, *, normalise: bool) -> Tensor:
    """Every expert speaks; those that were not chosen have weight zero."""
    weights = dict(mixture.named_parameters())
    chances = functional.softmax(x @ weights["gate.weight"].T, dim=-1)
    smallest = chances.topk(2, dim=-1).values[:, -1:]
    chances = torch.where(chances >= smallest, chances, 0.0)
    if normalise:
        chances = chances / chances.sum(dim=-1, keepdim=True)
    result = torch.zeros_like(x)
    for expert in range(4):
        gate, up, down = (
            weights[f"experts.{name}.weight"][expert]
            for name in ("gate_proj", "up_proj", "down_proj")
        )
        said = (functional.silu(x @ gate.T) * (x @ up.T)) @ down.T
        result += chances[:, expert : expert + 1] * said
    return result


@pytest.mark.parametrize("normalise", [True, False])
def test_the_answer_is_the_weighted_sum_of_the_chosen_experts(normalise: bool) -> None:
    mixture = make_mixture(normalise=normalise)
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(mixture(x), expected(mixture, x, normalise=normalise))


def test_deferred_experts_are_those_chosen_last_and_nothing_is_lost() -> None:
    names = ExpertNames("mlp", "gate_proj", "up_proj", "down_proj")
    mixture = MixtureOfExperts(Experts(4, 3, 6, True, (True, True), names, deferred=2), 8)
    generator = torch.Generator().manual_seed(1)
    for parameter in mixture.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    x = torch.randn(5, 8, generator=generator)
    now, later = mixture.parted(x)
    torch.testing.assert_close(now + later, mixture(x))
    weights, experts = mixture.gate(x)
    first = mixture._mixed(x, weights[:, :1], experts[:, :1])
    torch.testing.assert_close(now, first)
    assert (weights[:, 0] >= weights[:, 2]).all()


def test_the_dtype_of_the_input_is_kept() -> None:
    mixture = make_mixture(normalise=True).to(torch.bfloat16)
    assert mixture(torch.ones(3, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def chosen_by(
    routing: Routing, scores: list[float], bias: list[float]
) -> tuple[list[float], list[int]]:
    """Weights and experts of a token whose experts have these scores before softmax or sigmoid."""
    names = ExpertNames("mlp", "gate_proj", "up_proj", "down_proj")
    router = Router(Experts(len(scores), 2, 6, True, (True,), names, routing), 1)
    router.weight.data = torch.tensor(scores).unsqueeze(1)
    if routing.scores == "sigmoid":
        router.e_score_correction_bias.data = torch.tensor(bias)
    weights, experts = router(torch.ones(1, 1))
    order = experts[0].argsort()
    return weights[0][order].tolist(), experts[0][order].tolist()


def test_only_experts_of_the_best_groups_are_chosen() -> None:
    # The second best expert stands alone in a weak group.
    scores = [3.0, 0.0, 0.0, 0.0, 2.9, -9.0, 2.0, 2.0]
    best = Routing("softmax", num_groups=4, top_groups=1, scale=2.0)
    weights, experts = chosen_by(best, scores, [])
    assert experts == [0, 1]
    assert sum(weights) == pytest.approx(2.0)
    # The sum of the best two of a group counts where scores are sigmoids.
    _, experts = chosen_by(Routing("sigmoid", num_groups=4, top_groups=1), scores, [0.0] * 8)
    assert experts == [6, 7]


def test_the_learned_number_decides_who_is_chosen_and_not_how_much_it_counts() -> None:
    weights, experts = chosen_by(Routing("sigmoid"), [0.0, 0.0, 0.0, 2.0], [1.0, 0.0, 9.0, -9.0])
    assert experts == [0, 2]
    assert weights == pytest.approx([0.5, 0.5])
