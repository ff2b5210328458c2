"""The best plan of an inventory: column generation, exact cuts, devices by name. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from banyan.foundation.errors import InputError
from banyan.planner.costs import Part
from banyan.planner.inventory import Link
from banyan.planner.linear_program import maximise
from banyan.planner.plan import Replica, Stage
from banyan.planner.serving.candidates import Candidate, best_of, candidate, no_candidate
from banyan.planner.serving.cases import Column, Problem
from banyan.planner.serving.chains import Chain, best_chain, prompt_chain
from banyan.planner.serving.groups import Group
from banyan.planner.serving.kinds import Kind, Kinds, kinds_of
from banyan.planner.serving.modes import modes_of
from banyan.planner.serving.pace import batch_sizes
from banyan.planner.serving.pipelines import choose_pipelines
from banyan.planner.serving.placed import Task
from banyan.planner.serving.seating import Seat, seat
from banyan.planner.serving.steps import Phase
from banyan.planner.serving.tables import StageTable, stage_table
from banyan.planner.serving.wording import seconds_text, size_text

Array = NDArray[np.float64]

# Columns that are cut exactly: the best by what they could give.
MOST_EXACT, FEW_EXACT = 250, 60


@dataclass(slots=True)
class Tables:
    """Tables of groups, asked for once."""

    task: Task
    known: dict[tuple[object, ...], StageTable] = field(default_factory=dict)
    chains: dict[tuple[object, ...], Chain | None] = field(default_factory=dict)

    def of(self, group: Group, phase: Phase) -> StageTable:
        """The table of a group."""
        key = (*group.key, phase)
        if key not in self.known:
            sizes = (1,) if phase == "prompts" else batch_sizes()
            self.known[key] = stage_table(self.task, group, sizes, phase)
        return self.known[key]

    def chain(self, groups: tuple[Group, ...], hop: float, phase: Phase) -> Chain | None:
        """Groups in this order with their layers cut best."""
        key = tuple(group.key for group in groups), hop, phase
        if key not in self.chains:
            used = [self.of(group, phase) for group in groups]
            self.chains[key] = (
                prompt_chain(used, self.task)
                if phase == "prompts"
                else best_chain(used, hop, self.task)
            )
        return self.chains[key]


@dataclass(frozen=True, slots=True)
class Scope:
    """What may be used.

    Attributes:
        name: of the candidate that comes out.
        allows: kinds that may be used.
        together: prompts may be computed where answers are.
        apart: prompts may be computed elsewhere.
        thorough: as much work as the plan itself deserves; an alternative gets less.
    """

    name: str
    allows: Callable[[Kind], bool] = lambda _: True
    together: bool = True
    apart: bool = True
    thorough: bool = False


@dataclass(frozen=True, slots=True)
class _Pipeline:
    """A column cut exactly: groups in order for answers and prompts, and what it gives."""

    kinds: tuple[tuple[Kind, ...], ...]
    rate: float
    counts: tuple[int, ...]


def solve(scope: Scope, tables: Tables) -> Candidate:
    """Find the best plan within a scope, in the sense that the task asks for."""
    task = tables.task
    every = kinds_of(task)
    kept = [index for index, kind in enumerate(every.kinds) if scope.allows(kind)]
    kinds = every.only(kept)
    if not kept:
        return no_candidate(scope.name, "there are no such devices")
    problem = _problem(kinds, scope, tables)
    if not problem.modes:
        return no_candidate(scope.name, _why_nothing(kinds, tables))
    pipelines: dict[tuple[object, ...], _Pipeline] = {}
    bound = _look(problem, kinds, tables, pipelines, None)
    costs_R = _costs(kinds, task)
    if costs_R is not None:
        for _ in range(3):
            rate_per_cost = _best_ratio(pipelines, kinds, costs_R)
            if not rate_per_cost:
                break
            known = len(pipelines)
            cost_K = kinds.uses @ costs_R * rate_per_cost
            _look(replace(problem, most_programs=8), kinds, tables, pipelines, cost_K)
            if len(pipelines) == known:
                break
    found = [
        _seated(scope, chosen, bound, tables)
        for chosen in _choices(list(pipelines.values()), kinds, costs_R, task)
    ]
    best = best_of((each for each in found if each is not None), task)
    if best is not None:
        return best
    failed = [each for each in found if each is not None]
    return failed[0] if failed else no_candidate(scope.name, _why_nothing(kinds, tables))


def _problem(kinds: Kinds, scope: Scope, tables: Tables) -> Problem:
    task = tables.task
    modes = []
    if scope.together:
        both = [tables.of(kind.group, "both") for kind in kinds.kinds]
        modes += list(modes_of(kinds, both, task))
    if scope.apart and task.choices.prefill_apart and int(kinds.limits.sum()) > 1:
        answers = [tables.of(kind.group, "answers") for kind in kinds.kinds]
        prompts = [tables.of(kind.group, "prompts") for kind in kinds.kinds]
        modes += list(modes_of(kinds, answers, task, prompts))
    return Problem(
        num_layers=len(task.shape.layers),
        uses=kinds.uses,
        limits=kinds.limits,
        modes=tuple(modes),
        group_limits=kinds.group_limits,
        most_programs=80 if scope.thorough else 16,
        most_rounds=40 if scope.thorough else 8,
    )


def _look(
    problem: Problem,
    kinds: Kinds,
    tables: Tables,
    pipelines: dict[tuple[object, ...], _Pipeline],
    cost_K: Array | None,
) -> float | None:
    """Generate columns, cut the most promising exactly, and give the bound."""
    chosen = choose_pipelines(problem, cost_K=cost_K)
    taken = [column for column, _ in chosen.columns]
    rest = sorted(chosen.generated, key=lambda column: -column.rate)
    looked, most = 0, MOST_EXACT if problem.most_rounds > 8 else FEW_EXACT
    for column in (*taken, *_spread(rest, most)):
        key = tuple(tuple((kind, count) for kind, _, count in part) for part in column.passes)
        if key in pipelines or looked >= most:
            continue
        looked += 1
        pipelines[key] = _exact(column, kinds, tables)
    return chosen.upper_bound


def _spread(columns: Sequence[Column], most: int) -> Sequence[Column]:
    """At most so many, from all parts of the list."""
    if len(columns) <= most:
        return columns
    return [columns[index * len(columns) // most] for index in range(most)]


def _exact(column: Column, kinds: Kinds, tables: Tables) -> _Pipeline:
    task = tables.task
    order = tuple(_ordered(part, kinds) for part in column.passes)
    apart = len(order) > 1
    hop = _hop_seconds(order[0], task)
    phase: Phase = "answers" if apart else "both"
    chain = tables.chain(tuple(kind.group for kind in order[0]), hop, phase)
    rate = chain.tokens_per_second if chain else 0.0
    kept = [_used(order[0], chain)]
    if apart:
        prompts = tables.chain(tuple(kind.group for kind in order[1]), 0.0, "prompts")
        rate = min(rate, prompts.tokens_per_second) if prompts else 0.0
        kept.append(_used(order[1], prompts))
    index = {(kind.group.key, kind.zone): i for i, kind in enumerate(kinds.kinds)}
    counts = np.zeros(len(kinds.kinds), dtype=int)
    for part in kept:
        for kind in part:
            counts[index[kind.group.key, kind.zone]] += 1
    return _Pipeline(tuple(kept), rate, tuple(int(count) for count in counts))


def _used(order: tuple[Kind, ...], chain: Chain | None) -> tuple[Kind, ...]:
    if chain is None:
        return order
    return tuple(
        kind for kind, (first, end) in zip(order, chain.bounds, strict=True) if end > first
    )


def _ordered(part: Sequence[tuple[int, int, int]], kinds: Kinds) -> tuple[Kind, ...]:
    """Groups in order: the fastest last, where the head is; the largest memory before it."""
    groups = [kinds.kinds[kind] for kind, _, count in part for _ in range(count)]
    groups.sort(key=lambda kind: kind.group.name)
    if len(groups) > 1:
        fastest = max(
            groups, key=lambda kind: kind.group.type.read_bytes_per_second * kind.group.size
        )
        groups.remove(fastest)
        groups.append(fastest)
    return tuple(groups)


def _hop_seconds(order: Sequence[Kind], task: Task) -> float:
    """From a stage to the next, where nothing is known of hosts: between hosts, if there is."""
    if len(order) < 2:
        return 0.0
    link: Link = task.inventory.between_hosts or task.inventory.within_host
    return link.transfer_seconds(task.shape.token_bytes * 64)


def _costs(kinds: Kinds, task: Task) -> Array | None:
    """What a second of each sort of device costs, in the sense of the objective."""
    types = {device.type.name: device.type for device in task.inventory.devices}
    names = [name for name, _ in kinds.resources]
    if task.choices.objective == "energy":
        watts = np.array([types[name].watts_busy for name in names])
        return watts if watts.all() else None
    if task.choices.objective == "cost" or task.workload.requests_per_second is not None:
        prices = np.array([task.inventory.price_per_hour.get(name, 0.0) for name in names])
        return prices if prices.any() else np.ones(len(names))
    return None


def _best_ratio(
    pipelines: dict[tuple[object, ...], _Pipeline], kinds: Kinds, costs_R: Array
) -> float:
    ratios = [
        each.rate / max(float(np.array(each.counts) @ kinds.uses @ costs_R), 1e-12)
        for each in pipelines.values()
    ]
    return max(ratios, default=0.0)


def _choices(
    pipelines: list[_Pipeline], kinds: Kinds, costs_R: Array | None, task: Task
) -> list[list[_Pipeline]]:
    """Sets of pipelines that may be best, by integer programs over those that work."""
    working = [each for each in pipelines if each.rate > 0]
    if not working:
        return []
    counts = np.array([each.counts for each in working])
    rates = np.array([each.rate for each in working])
    usage = np.concatenate([counts @ kinds.uses, counts], axis=1).astype(float)
    limits = np.concatenate([kinds.limits, kinds.group_limits]).astype(float)
    if task.choices.most_replicas is not None:
        usage = np.concatenate([usage, np.ones((len(working), 1))], axis=1)
        limits = np.append(limits, float(task.choices.most_replicas))
    chosen = [_integer(rates, usage, limits)]
    if costs_R is not None:
        costs = counts @ kinds.uses @ costs_R
        worth = rates / np.maximum(costs, 1e-12)
        cheap = worth >= worth.max() * (1 - 1e-3)
        chosen.append(_integer(np.where(cheap, rates, -1.0), usage, limits))
        if task.workload.requests_per_second is not None:
            wanted = task.workload.requests_per_second * task.workload.answer_tokens
            # The forecast of the seated plan may be a hair below that of the tables.
            for margin in (1.0, 1.01, 1.05):
                floors = np.append(np.full(len(limits), -np.inf), wanted * margin)
                rows = np.concatenate([usage, rates[:, None]], axis=1)
                tight = np.append(limits, np.inf)
                chosen.append(_integer(-costs, rows, tight, floors))
    return [
        [each for each, count in zip(working, amounts, strict=True) for _ in range(int(count))]
        for amounts in chosen
        if amounts is not None and amounts.any()
    ]


def _integer(
    values: Array, usage: Array, limits: Array, floors: Array | None = None
) -> Array | None:
    answer = maximise(values, usage, limits, floors=floors, integer=True)
    return None if answer is None else answer.amounts


def _seated(
    scope: Scope, chosen: list[_Pipeline], bound: float | None, tables: Tables
) -> Candidate | None:
    """Give a set of pipelines devices, cut layers anew in their order, and forecast the plan."""
    task = tables.task
    flat = [[kind for part in each.kinds for kind in part] for each in chosen]
    seats = seat(flat, task.inventory)
    if seats is None:
        return None
    replicas = []
    for each, taken in zip(chosen, seats, strict=True):
        split = len(each.kinds[0])
        apart = len(each.kinds) > 1
        answers = cut_stages(taken[:split], "answers" if apart else "both", tables)
        prompts = cut_stages(taken[split:], "prompts", tables) if apart else ()
        if answers is None or prompts is None:
            return None
        replicas.append(Replica(answers, prompts))
    try:
        made = candidate(scope.name, replicas, task)
    except InputError as error:
        # Zones are hosts that reach each other by way of others; a stage needs direct links.
        return no_candidate(scope.name, str(error))
    return Candidate(made.name, made.plan, made.forecast, bound)


def cut_stages(seats: list[Seat], phase: Phase, tables: Tables) -> tuple[Stage, ...] | None:
    """Cut the layers best over seats; None where they have no room. A seat may get no layers."""
    task = tables.task
    # Stages of one host behind each other; the last seat keeps the head.
    hosts = [each.host for each in seats]
    ordered = sorted(seats, key=lambda each: (each.host == hosts[-1], hosts.index(each.host)))
    hop = 0.0 if phase == "prompts" else _seated_hop(ordered, task)
    chain = tables.chain(tuple(each.group for each in ordered), hop, phase)
    if chain is None:
        return None
    return tuple(
        Stage(
            first,
            end,
            place.devices,
            place.helpers if place.group.helper_work == "attention" else (),
            place.helpers if place.group.helper_work == "experts" else (),
        )
        for place, (first, end) in zip(ordered, chain.bounds, strict=True)
        if end > first
    )


def _seated_hop(ordered: list[Seat], task: Task) -> float:
    moves = sum(1 for _ in groupby(each.host for each in ordered)) - 1
    within = task.inventory.within_host.seconds * (len(ordered) - 1 - moves)
    between = (task.inventory.between_hosts or task.inventory.within_host).seconds * moves
    return (within + between) / max(1, len(ordered))


def _why_nothing(kinds: Kinds, tables: Tables) -> str:
    """Memory that is missing over all, or a goal that nobody meets."""
    task = tables.task
    held = task.costs.weight_bytes(task.shape, Part(0, len(task.shape.layers)))
    cached = sum(task.shape.cache_bytes(index) for index in range(len(task.shape.layers)))
    needed = held + cached * task.load.whole_context
    types = {device.type.name: device.type for device in task.inventory.devices}
    there = sum(
        types[name].memory_bytes * task.choices.memory_share * int(limit)
        for (name, _), limit in zip(kinds.resources, kinds.limits, strict=True)
        if any(_uses(kind, name) for kind in kinds.kinds)
    )
    if needed > there:
        return f"{size_text(needed - there)} short over all of them together"
    if task.workload.goal.time_per_output_token is not None:
        goal = seconds_text(task.workload.goal.time_per_output_token)
        return f"no pipeline gives a token every {goal}"
    return f"no cut leaves room for one sequence of {task.load.whole_context} tokens"


def _uses(kind: Kind, name: str) -> bool:
    helper = kind.group.helper
    return kind.group.type.name == name or (helper is not None and helper.name == name)
