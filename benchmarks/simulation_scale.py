"""How long the simulator takes for a large fleet.

    python -m benchmarks.simulation_scale [--devices 100000] [--rate 1000] [--seconds 3600]

Simulates a 70B model on three kinds of described cards: one card a replica, two that cut its
tensors, or a pipeline of four. Prints the time on one core, the events and the memory. The bar for
the numbers above is ten minutes.
"""

import argparse
import resource
import time

from banyan.planner.costs import RooflineCost
from banyan.planner.inventory import DeviceType, Inventory, Link, PlannedDevice
from banyan.planner.model_shape import LayerShape, ModelShape
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.simulation.fleet import simulate
from banyan.planner.simulation.picture import summary_lines
from banyan.planner.simulation.result import figures
from banyan.planner.simulation.trace import MIXES, made_trace
from banyan.planner.workload import Goal

_LARGE = 70e9


def large_fleet(num_devices: int) -> tuple[ModelShape, Inventory, Plan]:
    """A 70B model with weights in 8 bits on cards of three sizes, described."""
    layer = LayerShape(dense_weights=int(_LARGE / 80), attention_width=8192, cache_width=2048)
    model = ModelShape(
        name="70b",
        hidden_size=8192,
        layers=(layer,) * 80,
        vocab_size=128256,
        tied_embeddings=False,
        weight_dtype="int8",
    )
    kinds = (
        _card("141 GB", 141e9, 4.8e12, 9.9e14),
        _card("80 GB", 80e9, 2.0e12, 3.1e14),
        _card("24 GB", 24e9, 3.0e11, 1.2e14),
    )
    fifth = num_devices // 5
    counts = (fifth, 2 * fifth, num_devices - 3 * fifth)
    devices: list[PlannedDevice] = []
    replicas: list[Replica] = []
    for kind, count, together in zip(kinds, counts, (1, 2, 4), strict=True):
        names = [f"{kind.name}-{number}" for number in range(count)]
        for number, name in enumerate(names):
            devices.append(PlannedDevice(name, kind, f"{kind.name} host {number // 8}"))
        for start in range(0, count - together + 1, together):
            group = names[start : start + together]
            if together == 4:
                stages = tuple(Stage(20 * n, 20 * n + 20, (name,)) for n, name in enumerate(group))
            else:
                stages = (Stage(0, 80, tuple(group)),)
            replicas.append(Replica(stages))
    inventory = Inventory(
        devices=tuple(devices),
        within_host=Link(2e11, 5e-6),
        between_hosts=Link(2.5e10, 2e-5),
        price_per_hour={"141 GB": 3.5, "80 GB": 1.8, "24 GB": 0.4},
    )
    plan = Plan(
        model=model.name,
        model_fingerprint=model.fingerprint,
        num_layers=80,
        replicas=tuple(replicas),
    )
    return model, inventory, plan


def _card(name: str, memory: float, bandwidth: float, operations: float) -> DeviceType:
    return DeviceType(
        name=name,
        vendor="described",
        memory_bytes=int(memory),
        read_bytes_per_second=bandwidth,
        operations_per_second={"bfloat16": operations},
        launch_seconds=5e-6,
    )


def scale(num_devices: int, rate: float, seconds: float) -> None:
    """Simulate a large fleet and print what that took."""
    model, inventory, plan = large_fleet(num_devices)
    begun = time.process_time()
    trace = made_trace(rate, seconds, MIXES["chat"], seed=0)
    made = time.process_time()
    result = simulate(plan, model, inventory, RooflineCost(), trace)
    done = time.process_time()
    found = figures(result, inventory, Goal())
    for line in summary_lines(found):
        print(line)
    for name, row in found.milliseconds.items():
        print(name, ", ".join(f"{column} {value:.1f} ms" for column, value in row.items()))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{num_devices} devices, {len(plan.replicas)} replicas, {len(trace)} requests, "
        f"{result.num_events} events: {made - begun:.1f} s to make the requests, "
        f"{done - made:.1f} s to simulate them, "
        f"{time.process_time() - done:.1f} s to sum up, at most {memory:.2f} GiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=3600.0)
    chosen = parser.parse_args()
    scale(chosen.devices, chosen.rate, chosen.seconds)


if __name__ == "__main__":
    main()
