"""Plans, models and devices for tests of the simulator."""

from banyan.planner.inventory import DeviceType, Inventory, Link, PlannedDevice
from banyan.planner.model_shape import ModelShape
from banyan.planner.plan import Plan, Replica, Stage
from tests.planner.shapes import dense_model

MODEL = dense_model(4)
SMALL = DeviceType(
    name="small",
    vendor="here",
    memory_bytes=12_000_000,
    read_bytes_per_second=1e9,
    operations_per_second={"bfloat16": 1e11},
    launch_seconds=1e-5,
    watts_busy=100.0,
    watts_idle=20.0,
)


def inventory_of(count: int, kind: DeviceType = SMALL) -> Inventory:
    """So many devices, named d0, d1, ...; two on each host."""
    return Inventory(
        devices=tuple(PlannedDevice(f"d{n}", kind, f"host{n // 2}") for n in range(count)),
        within_host=Link(1e10, 1e-6),
        between_hosts=Link(1e9, 1e-4),
        price_per_hour={kind.name: 3.6},
        price_per_kilowatt_hour=0.1,
    )


def plan_of(*replicas: Replica, model: ModelShape = MODEL) -> Plan:
    """A plan for the model of these tests."""
    return Plan(
        model="dense",
        model_fingerprint=model.fingerprint,
        num_layers=len(model.layers),
        replicas=replicas,
    )


def single(device: str) -> Replica:
    """All layers on one device."""
    return Replica((Stage(0, 4, (device,)),))
