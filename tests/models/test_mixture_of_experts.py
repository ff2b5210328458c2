import pytest
import torch
from torch import Tensor
from torch.nn import functional

from banyan.models.configuration import Experts
from banyan.models.families import ExpertNames
from banyan.models.mixture_of_experts import MixtureOfExperts


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


def test_the_dtype_of_the_input_is_kept() -> None:
    mixture = make_mixture(normalise=True).to(torch.bfloat16)
    assert mixture(torch.ones(3, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
