"""The knapsack recurrence: the cheapest pipeline that covers all layers at a wanted rate. Pure.

A pipeline that gives F tokens per second may ask a group of devices to hold as many layers as it
still serves at F. With a price on every group, the cheapest set of groups that holds all layers is
a knapsack over (layers covered, groups of each kind left).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Covers:
    """The cheapest cover for each of N wanted rates.

    Attributes:
        prices: of the groups taken (N); infinity where nothing covers all layers.
        counts: groups of each kind (N, K).
        floors: proven: no cover within the limits is cheaper (N).
    """

    prices: Array
    counts: Integers
    floors: Array


def layers_at_rate(rates_KL: Array, wanted_F: Array) -> Integers:
    """Most layers that a group of each kind may hold and still give each wanted rate.

    Args:
        rates_KL: tokens per second of a group that holds 1, 2, ... L layers.
        wanted_F: tokens per second.

    Returns:
        layers_FK, 0 where not even one layer is served so fast.
    """
    # The best rate of all groups that hold so many layers or more: never rises with the layers.
    best_KL = np.maximum.accumulate(rates_KL[:, ::-1], axis=1)[:, ::-1]
    layers = [np.searchsorted(-row, -wanted_F * (1 - 1e-12), side="right") for row in best_KL]
    return np.array(layers, dtype=np.int64).T.reshape(len(wanted_F), len(rates_KL))


def cheapest_covers(
    layers_NK: Integers,
    prices_NK: Array,
    limits_K: Integers,
    num_layers: int,
    most_groups_N: Integers,
) -> Covers:
    """Cover all layers as cheaply as can be, with at most so many groups in a row.

    A limit on the number of groups is kept by a price on each group that rises until it is kept;
    what the covers then cost less that price is the proven floor.

    Args:
        layers_NK: most layers of a group of each kind, for each of N cases.
        prices_NK: of one group, 0 or more.
        limits_K: groups there are.
        num_layers: to be covered.
        most_groups_N: in one pipeline.
    """
    prices, counts = _knapsack(layers_NK, prices_NK, limits_K, num_layers)
    floors = prices.copy()
    toll = np.zeros(len(layers_NK))
    step = np.where(np.isfinite(prices), np.maximum(prices, 1e-9), 0.0)
    over = np.flatnonzero((counts.sum(axis=1) > most_groups_N) & np.isfinite(prices))
    prices[over] = np.inf
    for _ in range(6):
        if not len(over):
            break
        toll[over] += step[over] / most_groups_N[over]
        step[over] *= 2.0
        tolled, taken = _knapsack(
            layers_NK[over], prices_NK[over] + toll[over, None], limits_K, num_layers
        )
        floors[over] = np.maximum(floors[over], tolled - toll[over] * most_groups_N[over])
        kept = taken.sum(axis=1) <= most_groups_N[over]
        done = over[kept]
        counts[done] = taken[kept]
        prices[done] = np.sum(taken[kept] * prices_NK[done], axis=1)
        over = over[~kept]
    return Covers(prices, counts, np.minimum(floors, prices))


def _knapsack(
    layers_NK: Integers, prices_NK: Array, limits_K: Integers, num_layers: int
) -> tuple[Array, Integers]:
    """Prices and counts of the cheapest covers within the limits of each kind.

    Up to m groups of a kind are taken as packs of 1, 2, 4, ... and a rest: every number up to m is
    a sum of some of them.
    """
    num_cases = len(layers_NK)
    cost = np.full((num_cases, num_layers + 1), np.inf)
    cost[:, 0] = 0.0
    rows, covered = np.arange(num_cases)[:, None], np.arange(num_layers + 1)[None, :]
    packs: list[tuple[int, int, NDArray[np.bool_]]] = []
    for kind in np.flatnonzero(layers_NK.any(axis=0)):
        layers, price = layers_NK[:, kind, None], prices_NK[:, kind, None]
        usable = layers > 0
        most = min(int(limits_K[kind]), -(-num_layers // int(layers[usable].min())))
        for size in _packs(most):
            priced = cost[rows, np.maximum(covered - size * layers, 0)] + size * price
            better = usable & (priced < cost)
            if better.any():
                cost = np.where(better, priced, cost)
                packs.append((int(kind), size, better))
    return cost[:, num_layers], _counts(packs, layers_NK, num_layers, cost[:, num_layers])


def _packs(most: int) -> list[int]:
    sizes, size = list[int](), 1
    while most > 0:
        sizes.append(min(size, most))
        most -= sizes[-1]
        size *= 2
    return sizes


def _counts(
    packs: list[tuple[int, int, NDArray[np.bool_]]],
    layers_NK: Integers,
    num_layers: int,
    prices_N: Array,
) -> Integers:
    """Go back from all layers covered to none, pack by pack."""
    counts = np.zeros_like(layers_NK)
    left, rows = np.full(len(layers_NK), num_layers), np.arange(len(layers_NK))
    for kind, size, taken in reversed(packs):
        used = taken[rows, left] * size
        counts[:, kind] += used
        left = np.maximum(left - used * layers_NK[:, kind], 0)
    counts[~np.isfinite(prices_N)] = 0
    return counts
