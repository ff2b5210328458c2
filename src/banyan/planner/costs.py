"""What a part of a model costs in one step on a device: the seam between planning and prediction.

`CostModel` is what planner and simulator ask; `RooflineCost` answers from a device's rates alone.
Seconds, bytes; one step of one part. Pure.
"""

from dataclasses import dataclass
from typing import Protocol

from banyan.planner.inventory import DeviceType
from banyan.planner.model_shape import ModelShape, bytes_per_number


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a model that one device computes.

    Attributes:
        first_layer: its first layer.
        end_layer: the layer behind its last.
        dense: with the projections, norms and dense feed-forward blocks of these layers.
        attention: with attention and the KV cache.
        experts: with the experts.
        share: of every tensor, where devices cut them between each other; 0 to 1.
    """

    first_layer: int
    end_layer: int
    dense: bool = True
    attention: bool = True
    experts: bool = True
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class StepShape:
    """What one step computes.

    Attributes:
        num_tokens: new tokens of all sequences.
        num_rows: tokens that get logits.
        cached_tokens: tokens that attention reads from the cache, summed over the sequences.
        attended_pairs: pairs (new token, token it sees), summed over the sequences.
    """

    num_tokens: int
    num_rows: int
    cached_tokens: float
    attended_pairs: float


def decode_step(num_sequences: int, context: float) -> StepShape:
    """One new token for each of `num_sequences` with `context` tokens in the cache."""
    seen = num_sequences * context
    return StepShape(num_sequences, num_sequences, seen, seen)


def prefill_step(num_tokens: int, context: float = 0.0) -> StepShape:
    """`num_tokens` of one prompt behind `context` tokens that are in the cache already."""
    pairs = num_tokens * context + num_tokens * (num_tokens + 1) / 2
    return StepShape(num_tokens, 1, context + num_tokens, pairs)


class CostModel(Protocol):
    """Predicts steps; what it does not say, the plan does not know."""

    def step_seconds(
        self, model: ModelShape, part: Part, device: DeviceType, step: StepShape
    ) -> float:
        """Seconds that a device needs for a part of one step, transfers left out."""
        ...

    def weight_bytes(self, model: ModelShape, part: Part) -> float:
        """Bytes of weights that the device of a part holds."""
        ...

    def cache_bytes_per_token(self, model: ModelShape, part: Part) -> float:
        """Bytes that one cached token takes on the device of a part."""
        ...


@dataclass(frozen=True, slots=True)
class RooflineCost:
    """The larger of moving the bytes and doing the arithmetic, a launch for each layer.

    Attributes:
        memory_efficiency: share of a device's read rate that programs reach.
        compute_efficiency: share of its operations that programs reach.
    """

    memory_efficiency: float = 0.85
    compute_efficiency: float = 0.6

    def step_seconds(
        self, model: ModelShape, part: Part, device: DeviceType, step: StepShape
    ) -> float:
        """See `CostModel`."""
        operations, num_bytes = _work(model, part, step)
        rates = device.operations_per_second
        rate = rates.get(model.compute_dtype) or max(rates.values())
        moving = num_bytes / (device.read_bytes_per_second * self.memory_efficiency)
        computing = operations / (rate * self.compute_efficiency)
        num_launches = part.end_layer - part.first_layer
        return max(moving, computing) + num_launches * device.launch_seconds

    def weight_bytes(self, model: ModelShape, part: Part) -> float:
        """See `CostModel`."""
        layers = model.layers[part.first_layer : part.end_layer]
        numbers = sum(
            layer.dense_weights * part.dense
            + layer.expert_weights * layer.num_experts * part.experts
            for layer in layers
        )
        table = model.vocab_size * model.hidden_size * bytes_per_number(model.compute_dtype)
        num_tables = (part.first_layer == 0) + (part.end_layer == len(model.layers))
        if num_tables == 2 and model.tied_embeddings:
            num_tables = 1
        return (numbers * model.bytes_per_weight + table * num_tables * part.dense) * part.share

    def cache_bytes_per_token(self, model: ModelShape, part: Part) -> float:
        """See `CostModel`."""
        if not part.attention:
            return 0.0
        held = sum(model.cache_bytes(index) for index in range(part.first_layer, part.end_layer))
        return held * part.share


def _work(model: ModelShape, part: Part, step: StepShape) -> tuple[float, float]:
    """Operations and bytes of one step of a part."""
    operations = num_bytes = 0.0
    for index in range(part.first_layer, part.end_layer):
        layer = model.layers[index]
        if part.dense:
            operations += 2.0 * layer.dense_weights * step.num_tokens
            num_bytes += layer.dense_weights * model.bytes_per_weight
        if part.experts and layer.num_experts:
            visited = layer.num_experts * (
                1.0 - (1.0 - layer.top_k / layer.num_experts) ** step.num_tokens
            )
            operations += 2.0 * layer.expert_weights * layer.top_k * step.num_tokens
            num_bytes += visited * layer.expert_weights * model.bytes_per_weight
        if part.attention:
            operations += 4.0 * layer.attention_width * step.attended_pairs
            num_bytes += model.cache_bytes(index) * step.cached_tokens
    if part.dense and part.end_layer == len(model.layers):
        head = float(model.vocab_size * model.hidden_size)
        operations += 2.0 * head * step.num_rows
        num_bytes += head * bytes_per_number(model.compute_dtype)
    return operations * part.share, num_bytes * part.share
