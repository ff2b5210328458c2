"""Which work of a segment can wait until what others wait for has been sent. Pure.

A place that computes for itself beside what it sends would otherwise keep others waiting: shared
experts while those that were chosen wait for their rows elsewhere, or experts whose results the
next layer takes (expert deferral) while this layer waits for the others.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from banyan.compiler.ir.graph import Node

HEAVY = frozenset({"dot", "grouped_dot", "quantized_linear", "paged_attention", "gather"})
"""Operations that take time; of others alone it is not worth to make a segment."""


class Work(Protocol):
    """A node somewhere."""

    @property
    def node(self) -> Node:
        """What is computed."""
        ...

    @property
    def place(self) -> str:
        """Where."""
        ...


Task = TypeVar("Task", bound=Work)
Sources = Callable[[Task], Iterable[Task]]


def as_late_as_needed(
    tasks: Sequence[Task],
    steps: Mapping[Task, int],
    sources: Sources[Task],
    groups: Sequence[Sequence[Task]],
) -> dict[Task, int]:
    """Move what only joins what came from elsewhere to where it is used.

    So nothing waits for that to come before it is needed.

    Args:
        tasks: arguments before users.
        steps: of each task, how many times work changed its place before it.
        sources: what a task needs.
        groups: tasks that stay together.

    Returns:
        The steps, some of them later.
    """
    found = dict(steps)
    joining = _joining(tasks, steps, sources, groups)
    latest: dict[Task, int] = {}
    for task in reversed(tasks):
        if task in joining and task in latest:
            found[task] = max(found[task], latest[task])
        for source in sources(task):
            needed = found[task] - (source.place != task.place)
            latest[source] = min(latest.get(source, needed), needed)
    return found


def _joining(
    tasks: Sequence[Task],
    steps: Mapping[Task, int],
    sources: Sources[Task],
    groups: Sequence[Sequence[Task]],
) -> frozenset[Task]:
    """The tasks that take no time and nothing that their place computes in the same step."""
    fixed = {task for group in groups for task in group}
    found: set[Task] = set()
    for task in tasks:
        own = (s for s in sources(task) if (s.place, steps[s]) == (task.place, steps[task]))
        if task not in fixed and task.node.op not in HEAVY and all(s in found for s in own):
            found.add(task)
    return frozenset(found)


def deferrable(
    tasks: Sequence[Task],
    steps: Mapping[Task, int],
    sources: Sources[Task],
    groups: Sequence[Sequence[Task]],
) -> frozenset[Task]:
    """The tasks that may run behind the others of their place and step; arguments as above.

    Returns:
        Those that no other place needs for its very next work, as far as they take time.
    """
    urgent = {
        source
        for task in tasks
        for source in sources(task)
        if source.place != task.place and steps[task] == steps[source] + 1
    }
    group_of = {task: group for group in groups for task in group}
    pending = list(urgent)
    while pending:
        task = pending.pop()
        same = (s for s in sources(task) if (s.place, steps[s]) == (task.place, steps[task]))
        for other in (*same, *group_of.get(task, ())):
            if other not in urgent:
                urgent.add(other)
                pending.append(other)
    waited_for = {(task.place, steps[task]) for task in urgent}
    late = [t for t in tasks if t not in urgent and (t.place, steps[t]) in waited_for]
    worthwhile = {(task.place, steps[task]) for task in late if task.node.op in HEAVY}
    return frozenset(task for task in late if (task.place, steps[task]) in worthwhile)
