"""Small changes to a training plan as long as its step, played pass by pass, gets shorter. Pure.

The closed form that found the plan does not know where passes wait for each other; moving one layer
to a neighbour, or one micro-batch to another pipeline, finds what it missed.
"""

from collections.abc import Iterator
from dataclasses import replace

from banyan.planner.training.job import ORDERS
from banyan.planner.training.search import Candidate, TrainingSpace, step_seconds

MOST_PLAYED = 300
"""Changes that are tried in all."""


def polished(space: TrainingSpace, candidate: Candidate, seconds: float) -> tuple[Candidate, float]:
    """The best plan reached by single changes, each an improvement, and its seconds."""
    tried = 0
    improved = True
    while improved:
        improved = False
        for other in _neighbours(space, candidate):
            tried += 1
            if tried > MOST_PLAYED:
                return candidate, seconds
            shorter = step_seconds(space, other)
            if shorter is not None and shorter < seconds * (1 - 1e-9):
                candidate, seconds, improved = other, shorter, True
                break
    return candidate, seconds


def _neighbours(space: TrainingSpace, candidate: Candidate) -> Iterator[Candidate]:
    changed = (*_other_cuts(candidate), *_other_shares(candidate), *_other_orders(candidate))
    for other in changed:
        if _fits(space, other):
            yield other


def _other_cuts(candidate: Candidate) -> Iterator[Candidate]:
    """One layer goes to the stage before or behind."""
    for number, ends in enumerate(candidate.ends):
        for place in range(len(ends) - 1):
            for step in (-1, 1):
                moved = (*ends[:place], ends[place] + step, *ends[place + 1 :])
                if all(one < other for one, other in zip((0, *moved), moved, strict=False)):
                    rows = (*candidate.ends[:number], moved, *candidate.ends[number + 1 :])
                    yield replace(candidate, ends=rows)


def _other_shares(candidate: Candidate) -> Iterator[Candidate]:
    """One micro-batch goes to another pipeline."""
    shares = candidate.shares
    for source in range(len(shares)):
        for target in range(len(shares)):
            if source != target and shares[source] > 1:
                moved = list(shares)
                moved[source] -= 1
                moved[target] += 1
                yield replace(candidate, shares=tuple(moved))


def _other_orders(candidate: Candidate) -> Iterator[Candidate]:
    for order in ORDERS:
        if order != candidate.order:
            yield replace(candidate, order=order)


def _fits(space: TrainingSpace, candidate: Candidate) -> bool:
    rows = zip(candidate.layout, candidate.ends, candidate.shares, strict=True)
    return all(
        space.fits(row, ends, candidate.micro_batch, share, candidate.order)
        for row, ends, share in rows
    )
