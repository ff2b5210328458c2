"""What each replica of a plan is built with, and how work is shared out among them. Pure.

Called by the server, which starts a process for each replica, and by `LLM`, which runs them all in
its own.
"""

from collections.abc import Sequence
from dataclasses import replace

from banyan.engine.options import EngineOptions
from banyan.planner.plan import Plan
from banyan.planner.plan_check import require_own_devices
from banyan.planner.plan_file import print_plan


def options_of_replicas(
    options: EngineOptions, plan: Plan, free_bytes: int
) -> tuple[EngineOptions, ...]:
    """The options of each replica.

    Args:
        options: of all of them.
        plan: with all of them.
        free_bytes: memory of this machine, of which each replica may take an even share unless
            the options say how much.

    Raises:
        InputError: replicas share a device.
    """
    require_own_devices(plan)
    memory = options.memory or str(free_bytes // max(len(plan.replicas), 1))
    found = []
    for number, replica in enumerate(plan.replicas):
        alone = replace(plan, replicas=(replica,), prediction=None)
        store, seed = options.prefix_store, options.seed
        own = replace(
            options,
            plan=print_plan(alone),
            plan_workers=tuple(
                (place, address)
                for place, address in options.plan_workers
                if place in replica.all_devices
            ),
            memory=memory,
            max_num_seqs=min(options.max_num_seqs, replica.max_sequences or options.max_num_seqs),
            # A store is written by one engine.
            prefix_store=None if store is None else f"{store}/replica-{number}",
            # Two that count alike would write the same where chance decides.
            seed=None if seed is None else seed + number,
        )
        found.append(own)
    return tuple(found)


def speeds_of_replicas(plan: Plan) -> list[float]:
    """How fast replicas are against each other, as far as the plan says: by their sequences."""
    most = [replica.max_sequences for replica in plan.replicas]
    return [float(one) for one in most] if all(most) else [1.0] * len(most)


def share_out(costs: Sequence[int], speeds: Sequence[float]) -> list[int]:
    """Which replica does each piece of work, so that all are through at about the same time.

    The largest pieces are given away first, each to who would have it done soonest.

    Args:
        costs: of each piece, for instance its tokens.
        speeds: of each replica, above 0.
    """
    owed = [0.0] * len(speeds)
    found = [0] * len(costs)
    for piece in sorted(range(len(costs)), key=lambda piece: -costs[piece]):
        times = [(have + costs[piece]) / speed for have, speed in zip(owed, speeds, strict=True)]
        replica = times.index(min(times))
        owed[replica] += costs[piece]
        found[piece] = replica
    return found
