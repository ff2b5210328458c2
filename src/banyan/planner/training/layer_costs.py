"""What each layer costs one kind of device in one micro-batch of training. Pure.

A backward pass takes twice a forward pass, and one more where activations are computed again. What
a layer keeps for the way back are 34 bytes for each number of the hidden state, in 16 bits and with
attention that keeps no score matrix; only its input of 2 bytes with recomputation (Korthikanti et
al., "Reducing Activation Recomputation in Large Transformer Models", 2022, section 4).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from banyan.planner.costs import CostModel, Part, StepShape
from banyan.planner.inventory import DeviceType
from banyan.planner.model_shape import LayerShape, ModelShape
from banyan.planner.training.job import TrainingJob

Numbers = npt.NDArray[np.float64]

KEPT_BYTES, KEPT_BYTES_RECOMPUTED = 34.0, 2.0
BACKWARD, BACKWARD_RECOMPUTED = 2.0, 3.0
GRADIENT_BYTES = 2.0


@dataclass(frozen=True, slots=True)
class LayerCosts:
    """Running sums over the layers: entry i holds the layers before layer i, so L + 1 entries.

    Attributes:
        forward: seconds of one micro-batch.
        backward: seconds of one micro-batch.
        state: bytes of weights, gradients and optimiser.
        kept: bytes that one micro-batch keeps until its way back.
        gradient: bytes of gradients that pipelines add up.
        memory_bytes: what the device has.
    """

    forward: Numbers
    backward: Numbers
    state: Numbers
    kept: Numbers
    gradient: Numbers
    memory_bytes: int

    @property
    def num_layers(self) -> int:
        """Layers of the model."""
        return len(self.forward) - 1

    def seconds(self, first: int, end: int) -> tuple[float, float]:
        """Forward and backward seconds of a run of layers."""
        return (
            float(self.forward[end] - self.forward[first]),
            float(self.backward[end] - self.backward[first]),
        )

    def bytes_held(self, first: int, end: int, num_in_flight: int) -> float:
        """Bytes of a run of layers with so many micro-batches under way."""
        state = self.state[end] - self.state[first]
        return float(state + num_in_flight * (self.kept[end] - self.kept[first]))


def layer_costs(
    shape: ModelShape, device: DeviceType, job: TrainingJob, micro_batch: int, costs: CostModel
) -> LayerCosts:
    """Ask the cost model for each layer alone; equal layers between the ends are asked once."""
    tokens = micro_batch * job.sequence_tokens
    pairs = micro_batch * job.sequence_tokens * (job.sequence_tokens + 1) / 2
    step = StepShape(tokens, tokens, tokens, pairs)
    last = len(shape.layers) - 1
    asked: dict[tuple[LayerShape, bool, bool], tuple[float, float]] = {}
    for index, layer in enumerate(shape.layers):
        key = (layer, index == 0, index == last)
        if key not in asked:
            part = Part(index, index + 1)
            numbers = costs.weight_bytes(shape, part) / shape.bytes_per_weight
            asked[key] = (costs.step_seconds(shape, part, device, step), numbers)
    found = [asked[layer, index == 0, index == last] for index, layer in enumerate(shape.layers)]
    forward_L = np.array([seconds for seconds, _ in found])
    numbers_L = np.array([numbers for _, numbers in found])
    back = BACKWARD_RECOMPUTED if job.recompute else BACKWARD
    kept = (KEPT_BYTES_RECOMPUTED if job.recompute else KEPT_BYTES) * shape.hidden_size * tokens
    return LayerCosts(
        forward=_sums(forward_L),
        backward=_sums(forward_L * back),
        state=_sums(numbers_L * job.state_bytes_per_weight),
        kept=_sums(np.full(len(found), kept)),
        gradient=_sums(numbers_L * GRADIENT_BYTES),
        memory_bytes=device.memory_bytes,
    )


def _sums(values: Numbers) -> Numbers:
    return np.concatenate(([0.0], np.cumsum(values)))
