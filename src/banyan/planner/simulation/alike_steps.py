"""Times of many steps in a row, each longer than the last by the same: a closed form. Pure."""

import math


def duration(first: float, half: float, count: int) -> float:
    """Seconds of `count` steps: the first takes `first`, each further one `2 * half` more."""
    return count * first + half * count * (count - 1)


def steps_within(first: float, half: float, most: int, elapsed: float) -> int:
    """How many of `most` such steps have ended after `elapsed` seconds."""
    if half > 0.0:
        b = first - half
        steps = int((math.sqrt(b * b + 4 * half * max(0.0, elapsed)) - b) / (2 * half))
    else:
        steps = int(elapsed / first)
    steps = max(0, min(steps, most))
    while steps < most and duration(first, half, steps + 1) <= elapsed:
        steps += 1
    while steps > 0 and duration(first, half, steps) > elapsed:
        steps -= 1
    return steps
