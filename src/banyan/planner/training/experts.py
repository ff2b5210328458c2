"""Where the experts of a sparse layer live in training: on which device, and which on all. Pure.

`shadowed_experts` is the policy of FasterMoE (He et al., PPoPP 2022, and its shadow_policy.py):
a popular expert is copied to every device where sending the copy costs less than sending tokens to
the one device that has it. `place_experts` shares the others out by load and speed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from banyan.foundation.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertCosts:
    """What moving and computing costs for one expert of two matrices.

    Attributes:
        token_seconds: sending one token's hidden state over the network.
        copy_seconds: sending the weights of one expert over the network.
        compute_seconds: the forward pass of one token through an expert.
    """

    token_seconds: float
    copy_seconds: float
    compute_seconds: float


def expert_costs(
    *,
    hidden_size: int,
    expert_size: int,
    bytes_per_number: float,
    network_bytes_per_second: float,
    operations_per_second: float,
) -> ExpertCosts:
    """FasterMoE's t_feat, t_model and t_comp for an expert of `hidden x expert` and back."""
    token_bytes = hidden_size * bytes_per_number
    num_weights = 2 * hidden_size * expert_size
    return ExpertCosts(
        token_seconds=token_bytes / network_bytes_per_second,
        copy_seconds=num_weights * bytes_per_number / network_bytes_per_second,
        compute_seconds=2 * num_weights / operations_per_second,
    )


def shadowed_experts(tokens: Sequence[int], costs: ExpertCosts) -> tuple[int, ...]:
    """Choose the experts that every device gets a copy of.

    The layer takes as long as its most popular expert: three times its arithmetic (forward, and
    twice backward) and four times its tokens on the network (there and back, both ways). Copies are
    made from the most popular on, as long as each makes the layer quicker.

    Args:
        tokens: tokens of the step for each expert.
        costs: of one token and of one copy.

    Returns:
        Indices of the experts, most popular first.
    """
    order = sorted(range(len(tokens)), key=lambda expert: -tokens[expert])
    per_token = 3 * costs.compute_seconds + 4 * costs.token_seconds
    latency = per_token * tokens[order[0]] if order else 0.0
    copies = 0.0
    chosen: list[int] = []
    for rank, expert in enumerate(order):
        copies += costs.copy_seconds
        rest = tokens[order[rank + 1]] if rank + 1 < len(order) else 0
        shortened = per_token * rest + copies
        if shortened >= latency:
            break
        latency = shortened
        chosen.append(expert)
    return tuple(chosen)


def place_experts(
    loads: Sequence[float], speeds: Sequence[float], rooms: Sequence[int]
) -> tuple[int, ...]:
    """Give each expert a device so that the slowest device is as quick as can be found.

    Heaviest first to the device that would be done with it soonest, then single moves and swaps as
    long as the slowest device gains.

    Args:
        loads: work of each expert.
        speeds: of each device, work per second.
        rooms: how many experts each device has memory for.

    Returns:
        The device of each expert.

    Raises:
        InputError: the devices have no room for all.
    """
    if sum(rooms) < len(loads):
        raise InputError(
            f"{len(loads)} experts do not fit: the devices have room for {sum(rooms)}; add devices "
            "or make experts smaller (int8, int4)"
        )
    device_of = [0] * len(loads)
    work = [0.0] * len(speeds)
    room = list(rooms)
    for expert in sorted(range(len(loads)), key=lambda one: -loads[one]):
        free = [device for device in range(len(speeds)) if room[device]]
        device = min(free, key=lambda one: ((work[one] + loads[expert]) / speeds[one], one))
        device_of[expert] = device
        work[device] += loads[expert]
        room[device] -= 1
    while _improve(loads, speeds, device_of, work, room):
        pass
    return tuple(device_of)


def _improve(
    loads: Sequence[float],
    speeds: Sequence[float],
    device_of: list[int],
    work: list[float],
    room: list[int],
) -> bool:
    """Move one expert off the slowest device, or swap it for a lighter one; tell whether it did."""
    slowest = max(range(len(speeds)), key=lambda device: work[device] / speeds[device])
    longest = work[slowest] / speeds[slowest]
    best = (longest * (1 - 1e-9), -1, -1, -1)
    for expert, device in enumerate(device_of):
        if device != slowest:
            continue
        for other in range(len(speeds)):
            partners = [one for one, where in enumerate(device_of) if where == other]
            for partner in (-1, *partners) if room[other] else partners:
                gained = loads[expert] - (loads[partner] if partner >= 0 else 0.0)
                after = max(
                    (work[slowest] - gained) / speeds[slowest],
                    (work[other] + gained) / speeds[other],
                )
                if other != slowest and gained > 0 and after < best[0]:
                    best = (after, expert, partner, other)
    _, expert, partner, other = best
    if expert < 0:
        return False
    gained = loads[expert] - (loads[partner] if partner >= 0 else 0.0)
    work[slowest] -= gained
    work[other] += gained
    device_of[expert] = other
    if partner >= 0:
        device_of[partner] = slowest
    else:
        room[slowest] += 1
        room[other] -= 1
    return True
