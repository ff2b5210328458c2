"""The kinds of plan that a person would ask about, each to be solved for its best. Pure."""

from collections.abc import Callable, Iterator

from banyan.planner.serving.candidates import devices_by_type
from banyan.planner.serving.kinds import Kind
from banyan.planner.serving.placed import Task
from banyan.planner.serving.solver import Scope


def alternatives(task: Task) -> Iterator[Scope]:
    """Less than everything: one type, without the CPUs, each split alone."""
    types = devices_by_type(task.inventory.devices)
    for name, devices in types.items():
        if len(types) > 1 and len(devices) > 1:
            yield Scope(f"all on {name}", _only(name))
    cpus = {name for name, devices in types.items() if devices[0].type.kind == "cpu"}
    if cpus and len(cpus) < len(types):
        yield Scope("without the CPUs", _without(frozenset(cpus)))
    yield Scope("no tensors cut", lambda kind: kind.group.size == 1)
    yield Scope("prompts and answers together", apart=False)
    if task.choices.prefill_apart and len(task.inventory.devices) > 1:
        yield Scope("prompts apart from answers", together=False)
    if cpus and task.choices.attention_apart:
        yield Scope("attention on the CPUs", _helped("attention"))
    has_experts = any(layer.num_experts for layer in task.shape.layers)
    if cpus and task.choices.experts_apart and has_experts:
        yield Scope("experts on the CPUs", _helped("experts"))


def _only(name: str) -> Callable[[Kind], bool]:
    return lambda kind: kind.group.type.name == name and kind.group.helper is None


def _without(names: frozenset[str]) -> Callable[[Kind], bool]:
    def allows(kind: Kind) -> bool:
        helper = kind.group.helper
        return kind.group.type.name not in names and (helper is None or helper.name not in names)

    return allows


def _helped(work: str) -> Callable[[Kind], bool]:
    return lambda kind: kind.group.helper_work == work
