"""Models and devices of tests: round numbers that can be checked by head."""

from banyan.planner.inventory import DeviceType, Inventory, Link, PlannedDevice
from banyan.planner.model_shape import LayerShape, ModelShape

FAST = DeviceType(
    name="fast",
    vendor="here",
    memory_bytes=10**9,
    read_bytes_per_second=1e11,
    operations_per_second={"bfloat16": 1e13},
    launch_seconds=1e-6,
    watts_busy=100.0,
)
SLOW = DeviceType(
    name="slow",
    vendor="there",
    memory_bytes=4 * 10**9,
    read_bytes_per_second=5e10,
    operations_per_second={"bfloat16": 5e12},
    launch_seconds=2e-6,
    watts_busy=50.0,
)


def dense_model(num_layers: int = 4) -> ModelShape:
    """A dense decoder of equal layers."""
    layer = LayerShape(dense_weights=1_000_000, attention_width=256, cache_width=128)
    return ModelShape(
        name="dense",
        hidden_size=256,
        layers=(layer,) * num_layers,
        vocab_size=1000,
        tied_embeddings=True,
    )


def two_hosts() -> Inventory:
    """Two fast devices on one host, a slow one on another."""
    return Inventory(
        devices=(
            PlannedDevice("a", FAST, "left"),
            PlannedDevice("b", FAST, "left"),
            PlannedDevice("c", SLOW, "right"),
        ),
        within_host=Link(1e10, 1e-6),
        between_hosts=Link(1e9, 1e-4),
        links={("a", "b"): Link(1e11)},
        price_per_hour={"fast": 2.0, "slow": 0.5},
    )
