"""How long planning takes, and how near the proven bound the plan is.

    python -m benchmarks.planning [--devices N]

Llama-70B's shape on N devices of six described types (1,000 unless told), eight to a host, with and
without a goal, from a cost model of rooflines. Seconds of the processor are printed beside those of
the clock: planning is one thread.
"""

import argparse
import time

from banyan.planner.costs import RooflineCost
from banyan.planner.inventory import DeviceType, Inventory, Link, PlannedDevice
from banyan.planner.model_shape import LayerShape, ModelShape
from banyan.planner.plan_check import check_plan
from banyan.planner.report import PlanningChoices
from banyan.planner.serving import plan_serving
from banyan.planner.workload import Goal, Workload

SECONDS = 60.0
# name, vendor, GB, TB/s, TFLOPS, watts, money an hour, share of the devices
TYPES = (
    ("h200", "nvidia", 141, 4.8, 990, 700, 4.0, 16),
    ("a100", "nvidia", 80, 2.0, 312, 400, 1.8, 24),
    ("l4", "nvidia", 24, 0.3, 121, 72, 0.7, 32),
    ("mi300x", "amd", 192, 5.3, 1300, 750, 3.5, 8),
    ("910b", "ascend", 64, 1.6, 320, 310, 1.5, 32),
    ("epyc", "cpu", 768, 0.46, 5, 400, 1.0, 13),
)


def inventory(num_devices: int) -> Inventory:
    """Six types in the shares of `TYPES`."""
    total, devices = sum(row[-1] for row in TYPES), list[PlannedDevice]()
    for name, vendor, memory, rate, operations, watts, _, share in TYPES:
        device = DeviceType(
            name=name,
            vendor=vendor,
            memory_bytes=memory * 10**9,
            read_bytes_per_second=rate * 1e12,
            operations_per_second={"bfloat16": operations * 1e12},
            launch_seconds=4e-6,
            watts_busy=watts,
            watts_idle=watts / 6,
            kind="cpu" if vendor == "cpu" else "accelerator",
        )
        devices += [
            PlannedDevice(f"{name}-{number}", device, f"{name}-host-{number // 8}")
            for number in range(round(num_devices * share / total))
        ]
    return Inventory(
        devices=tuple(devices),
        within_host=Link(1e11, 3e-6),
        between_hosts=Link(1.25e10, 1e-5),
        price_per_hour={row[0]: float(row[6]) for row in TYPES},
    )


def llama_70b() -> ModelShape:
    """80 layers of 8192."""
    layer = LayerShape(
        dense_weights=8192 * (8192 + 2048) + 8192 * 8192 + 3 * 8192 * 28672,
        attention_width=8192,
        cache_width=2048,
        num_kv_heads=8,
    )
    return ModelShape(
        name="llama-70b",
        hidden_size=8192,
        layers=(layer,) * 80,
        vocab_size=128256,
        tied_embeddings=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--devices", type=int, default=1000)
    options = parser.parse_args()
    shape, devices = llama_70b(), inventory(options.devices)
    print(
        "| goal | tokens/s | bound | gap | ms a token | USD a million | replicas | seconds | of "
        "the processor |\n|---|---|---|---|---|---|---|---|---|"
    )
    for name, goal in (("none", Goal()), ("50 ms", Goal(time_per_output_token=0.05))):
        workload = Workload(prompt_tokens=1000, answer_tokens=300, goal=goal)
        clock, processor = time.perf_counter(), time.process_time()
        report = plan_serving(shape, devices, workload, RooflineCost(), choices=PlanningChoices())
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        if report.plan is None or report.plan.prediction is None:
            print(f"| {name} | {report.summary} |")
            continue
        figures, faults = report.plan.prediction, check_plan(report.plan, shape, devices)
        print(
            f"| {name} | {figures.tokens_per_second:,.0f} | {figures.upper_bound or 0:,.0f} "
            f"| {figures.gap or 0:.2%} | {figures.time_per_output_token * 1e3:.0f} "
            f"| {figures.cost_per_million_tokens or 0:.2f} | {len(report.plan.replicas)} "
            f"| {clock:.1f} | {processor:.1f} |"
        )
        if faults or processor > SECONDS:
            print(f"missed: {'; '.join(faults[:3])} {processor:.1f} s")


if __name__ == "__main__":
    main()
