"""Where nothing fits: which single change would make it fit. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from banyan.planner.inventory import Inventory, PlannedDevice
from banyan.planner.model_shape import bytes_per_number
from banyan.planner.report import Remedy
from banyan.planner.serving.candidates import Candidate, best_of, devices_by_type
from banyan.planner.serving.natural import natural_plans
from banyan.planner.serving.placed import Task
from banyan.planner.serving.solver import Scope, Tables, solve
from banyan.planner.serving.wording import seconds_text

NARROWER = ("int8", "int4")
MOST_MORE = 64


def remedies(task: Task) -> tuple[Remedy, ...]:
    """Single changes with which the model fits, the fastest first."""
    found = [
        Remedy(change, candidate.prediction.tokens_per_second)
        for change, changed in _changes(task)
        if (candidate := quick_best(changed)) and candidate.prediction
    ]
    found += _more_devices(task)
    found += _looser_goals(task)
    context = _shorter_context(task)
    if context is not None:
        found.append(context)
    return tuple(sorted(found, key=lambda remedy: -remedy.tokens_per_second))


def quick_best(task: Task) -> Candidate | None:
    """The best plan without the finer points: enough to tell whether there is one."""
    tables = Tables(task)
    return best_of([*natural_plans(task), solve(Scope("", apart=False), tables)], task)


def _changes(task: Task) -> Iterator[tuple[str, Task]]:
    shape = task.shape
    for dtype in NARROWER:
        if bytes_per_number(dtype) < shape.bytes_per_weight:
            yield f"weights in {dtype}", replace(task, shape=replace(shape, weight_dtype=dtype))
        if bytes_per_number(dtype) < bytes_per_number(shape.cache_dtype):
            yield (
                f"keys and values in {dtype}",
                replace(task, shape=replace(shape, cache_dtype=dtype)),
            )


def _more_devices(task: Task) -> Iterator[Remedy]:
    """The fewest more of each type: 1, 2, 4, ... and then between."""
    for name, devices in devices_by_type(task.inventory.devices).items():
        low, high, best = 0, 1, None
        while high <= MOST_MORE:
            best = quick_best(
                replace(task, inventory=_with_more(task.inventory, devices[-1], high))
            )
            if best is not None:
                break
            low, high = high, high * 2
        while best is not None and high - low > 1:
            middle = (low + high) // 2
            tried = quick_best(
                replace(task, inventory=_with_more(task.inventory, devices[-1], middle))
            )
            if tried is None:
                low = middle
            else:
                high, best = middle, tried
        if best is not None and best.prediction is not None:
            count = "one" if high == 1 else str(high)
            yield Remedy(f"{count} more {name}", best.prediction.tokens_per_second)


def _with_more(inventory: Inventory, like: PlannedDevice, count: int) -> Inventory:
    added = tuple(
        PlannedDevice(f"{like.name}, new {number}", like.type, like.host)
        for number in range(1, count + 1)
    )
    return replace(inventory, devices=inventory.devices + added)


def _looser_goals(task: Task) -> Iterator[Remedy]:
    goal = task.workload.goal
    for field, words in (
        ("time_per_output_token", "a goal for the time per output token"),
        ("time_to_first_token", "a goal for the time to the first token"),
    ):
        if getattr(goal, field) is None:
            continue
        free = replace(task, workload=replace(task.workload, goal=replace(goal, **{field: None})))
        if quick_best(free) is None:
            continue
        limit, best = getattr(goal, field), None
        while best is None and limit < 1e5:
            limit *= 1.25
            looser = replace(goal, **{field: limit})
            best = quick_best(replace(task, workload=replace(task.workload, goal=looser)))
        if best is not None and best.prediction is not None:
            yield Remedy(f"{words} of {seconds_text(limit)}", best.prediction.tokens_per_second)


def _shorter_context(task: Task) -> Remedy | None:
    """The longest context that fits, in steps of an eighth."""
    workload = task.workload
    for eighths in range(7, 0, -1):
        shorter = replace(
            workload,
            prompt_tokens=max(1, workload.prompt_tokens * eighths // 8),
            answer_tokens=max(1, workload.answer_tokens * eighths // 8),
        )
        best = quick_best(replace(task, workload=shorter))
        if best is not None and best.prediction is not None:
            tokens = shorter.prompt_tokens + shorter.answer_tokens
            return Remedy(
                f"a context of {tokens:,} instead of "
                f"{workload.prompt_tokens + workload.answer_tokens:,} tokens",
                best.prediction.tokens_per_second,
            )
    return None
