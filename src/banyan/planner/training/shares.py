"""Whole numbers shared out: micro-batches over pipelines, layers over devices. Pure."""

import heapq
from collections.abc import Callable, Sequence


def largest_remainder(weights: Sequence[float], total: int) -> tuple[int, ...]:
    """Share `total` in proportion to the weights; what is left goes to the largest remainders.

    The rule by which Metis (ATC 2024) balances layers and batches, and the one of parliaments.
    """
    whole = sum(weights)
    exact = [total * weight / whole for weight in weights]
    shares = [int(share) for share in exact]
    order = sorted(range(len(exact)), key=lambda place: shares[place] - exact[place])
    for place in order[: total - sum(shares)]:
        shares[place] += 1
    return tuple(shares)


def least_maximum(
    seconds: Sequence[Callable[[int], float]], total: int, most: Sequence[int] | None = None
) -> tuple[int, ...] | None:
    """Share `total` so that the longest time is least; exact where times grow with the share.

    Args:
        seconds: time of each for a share of so many.
        total: to be shared; each gets at least one.
        most: that each can take; None where there is no limit.

    Returns:
        The shares, or None where there are too few or they cannot take so many.
    """
    limits = [total] * len(seconds) if most is None else list(most)
    if total < len(seconds) or sum(limits) < total or min(limits) < 1:
        return None
    shares = [1] * len(seconds)
    line = [(take(2), place) for place, take in enumerate(seconds) if limits[place] > 1]
    heapq.heapify(line)
    for _ in range(total - len(seconds)):
        _, place = heapq.heappop(line)
        shares[place] += 1
        if shares[place] < limits[place]:
            heapq.heappush(line, (seconds[place](shares[place] + 1), place))
    return tuple(shares)
