import numpy as np

from banyan.planner.costs import RooflineCost
from banyan.planner.training.job import TrainingJob
from banyan.planner.training.layer_costs import layer_costs
from tests.planner.training.instances import device_type, even_model

IDEAL = RooflineCost(memory_efficiency=1.0, compute_efficiency=1.0)


def test_layers_take_their_arithmetic_and_keep_their_activations() -> None:
    job = TrainingJob(sequences_per_step=8, sequence_tokens=10)
    costs = layer_costs(even_model(3), device_type("one", 2e9, 77), job, 2, IDEAL)
    # 2 x 10 tokens, 2 operations for each of a million weights; the head adds 64.
    middle = costs.seconds(1, 2)
    assert middle == (0.02, 0.04)
    assert costs.bytes_held(1, 2, 3) == 16e6 + 3 * 34 * 64 * 20
    assert costs.gradient[2] - costs.gradient[1] == 2e6
    assert (costs.num_layers, costs.memory_bytes) == (3, 77)
    assert np.all(np.diff(costs.forward) > 0)


def test_computing_again_keeps_less_and_takes_longer() -> None:
    job = TrainingJob(sequences_per_step=8, sequence_tokens=10, recompute=True)
    costs = layer_costs(even_model(3), device_type("one", 2e9), job, 2, IDEAL)
    assert costs.seconds(1, 2) == (0.02, 0.06)
    assert costs.bytes_held(1, 2, 3) == 16e6 + 3 * 2 * 64 * 20
