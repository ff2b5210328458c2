"""Random instances of training: few uneven devices, a small model, tight memory now and then."""

import random

from banyan.planner.costs import RooflineCost
from banyan.planner.inventory import DeviceType, Inventory, Link, PlannedDevice
from banyan.planner.model_shape import LayerShape, ModelShape
from banyan.planner.training.job import TrainingJob
from banyan.planner.training.search import TrainingSpace

NO_LIMIT = Link(1e18)


def device_type(name: str, speed: float, memory_bytes: int = 10**12) -> DeviceType:
    """A device that computes at `speed` operations a second, however few they are."""
    return DeviceType(
        name=name,
        vendor="any",
        memory_bytes=memory_bytes,
        read_bytes_per_second=1e18,
        operations_per_second={"bfloat16": speed},
    )


def even_model(num_layers: int) -> ModelShape:
    """Equal layers and next to no vocabulary."""
    layer = LayerShape(dense_weights=1_000_000, attention_width=0, cache_width=0)
    return ModelShape(
        name="even",
        hidden_size=64,
        layers=(layer,) * num_layers,
        vocab_size=1,
        tied_embeddings=True,
    )


def space_of(
    devices: list[DeviceType],
    num_layers: int,
    job: TrainingJob,
    link: Link = NO_LIMIT,
    shape: ModelShape | None = None,
) -> TrainingSpace:
    """One device of each type, each on a host of its own, with one link between all."""
    planned = tuple(
        PlannedDevice(f"{number}", kind, f"host-{number}") for number, kind in enumerate(devices)
    )
    inventory = Inventory(devices=planned, within_host=link, between_hosts=link)
    cost = RooflineCost(memory_efficiency=1.0, compute_efficiency=1.0)
    return TrainingSpace(shape or even_model(num_layers), inventory, job, cost)


def random_space(seed: int, num_devices: int) -> TrainingSpace:
    """Two or three kinds of device, layers of several sizes, links from slow to fast."""
    chance = random.Random(seed)
    kinds = [
        device_type(
            f"kind-{number}",
            chance.choice([1e12, 2e12, 3e12, 4e12, 7e12]),
            int(chance.choice([2e7, 4e7, 8e7, 1e9])),
        )
        for number in range(chance.randint(2, 3))
    ]
    devices = [chance.choice(kinds) for _ in range(num_devices)]
    layers = tuple(
        LayerShape(
            dense_weights=chance.choice([200_000, 400_000, 800_000]),
            attention_width=0,
            cache_width=0,
        )
        for _ in range(chance.randint(3, 6))
    )
    shape = ModelShape(
        name="random",
        hidden_size=64,
        layers=layers,
        vocab_size=chance.choice([100, 5_000]),
        tied_embeddings=chance.choice([True, False]),
    )
    job = TrainingJob(sequences_per_step=chance.choice([4, 6, 8]), sequence_tokens=256)
    link = Link(chance.choice([1e8, 1e9, 1e10]), chance.choice([0.0, 1e-4]))
    return space_of(devices, len(layers), job, link, shape)
