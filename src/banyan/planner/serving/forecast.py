"""What a plan would do: any plan, found by the planner or written by hand. Pure.

The same numbers stand behind the choice of a plan, the reasons why others lost, and the picture of
one. `costs` predicts steps, `pace` how stages keep each other busy.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from banyan.planner.inventory import Inventory, Link
from banyan.planner.plan import Plan, Prediction, Replica
from banyan.planner.serving.groups import (
    LoadSeconds,
    group_memory,
    load_seconds,
    stage_seconds,
)
from banyan.planner.serving.pace import (
    Pace,
    Pass,
    StagePass,
    batch_sizes,
    best_pace,
    pipeline_pass,
)
from banyan.planner.serving.placed import (
    PlacedStage,
    Task,
    links_between,
    most_sequences,
    place_stage,
    prompt_memory,
)
from banyan.planner.serving.stage_forecast import (
    StageForecast,
    memory_of,
    priced,
    served_stages,
)
from banyan.planner.serving.steps import Phase
from banyan.planner.serving.wording import over_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A plan at work.

    Attributes:
        prediction: its figures; None where it cannot run or misses the goal.
        problems: why it cannot run, or misses the goal: one clause each with numbers.
        paces: of each replica: sequences of a micro-batch, micro-batches under way.
        stages: each stage at work; empty where the plan cannot run.
        rates: tokens per second that each replica gives.
    """

    prediction: Prediction | None
    problems: tuple[str, ...] = ()
    paces: tuple[Pace, ...] = ()
    stages: tuple[StageForecast, ...] = ()
    rates: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A replica at work, or why not."""

    problems: tuple[str, ...]
    pace: Pace | None = None
    rate: float = 0.0
    first_token: float = 0.0
    stages: tuple[StageForecast, ...] = ()


def forecast(plan: Plan, task: Task) -> Forecast:
    """Predict a plan.

    Raises:
        InputError: it names a device that is not there.
    """
    seen: dict[object, _Outcome] = {}
    outcomes = []
    for number, replica in enumerate(plan.replicas):
        key = _likeness(replica, task.inventory)
        if key not in seen:
            seen[key] = _replica_outcome(replica, task)
        outcomes.append(_renamed(seen[key], replica, number))
    problems = tuple(dict.fromkeys(text for each in outcomes for text in each.problems))
    paces = tuple(each.pace for each in outcomes if each.pace is not None)
    if problems or len(paces) < len(outcomes) or not outcomes:
        return Forecast(prediction=None, problems=problems or ("it has no replica",))
    stages = tuple(stage for each in outcomes for stage in each.stages)
    rates = tuple(each.rate for each in outcomes)
    prediction = Prediction(
        tokens_per_second=sum(rates),
        time_to_first_token=max(each.first_token for each in outcomes),
        time_per_output_token=max(pace.seconds for pace in paces),
        memory_bytes=memory_of(stages),
    )
    stages = served_stages(stages, task.workload, prediction.tokens_per_second)
    return Forecast(
        prediction=priced(prediction, stages, task), paces=paces, stages=stages, rates=rates
    )


def _likeness(replica: Replica, inventory: Inventory) -> object:
    """Two replicas of one likeness behave alike: types, hosts in order of appearance, links."""
    names = [name for stage in (*replica.stages, *replica.prefill) for name in stage.all_devices]
    if inventory.links:
        return replica
    devices = [inventory.device(name) for name in names]
    hosts = {host: i for i, host in enumerate(dict.fromkeys(d.host for d in devices))}
    form = tuple(
        (s.first_layer, s.end_layer, len(s.devices), len(s.attention), len(s.experts))
        for s in (*replica.stages, *replica.prefill)
    )
    places = tuple((device.type.name, hosts[device.host]) for device in devices)
    return form, len(replica.stages), places, replica.max_sequences


def _renamed(outcome: _Outcome, replica: Replica, number: int) -> _Outcome:
    """The same outcome for another replica of this likeness."""
    parts = (*replica.stages, *replica.prefill)
    stages = tuple(
        replace(
            each,
            replica=number,
            devices=part.devices,
            helpers=part.attention or part.experts,
        )
        for each, part in zip(outcome.stages, parts, strict=False)
    )
    return replace(outcome, stages=stages)


def _replica_outcome(replica: Replica, task: Task) -> _Outcome:
    stages = tuple(place_stage(stage, task) for stage in replica.stages)
    apart = tuple(place_stage(stage, task) for stage in replica.prefill)
    links, prompt_links = (links_between(each, task.inventory) for each in (stages, apart))
    most, problem = most_sequences(stages, task)
    unfit = [text for text in (problem, prompt_memory(apart, task)) if text]
    unfit += [text for text in (links, prompt_links) if isinstance(text, str)]
    if unfit or isinstance(links, str) or isinstance(prompt_links, str):
        return _Outcome(tuple(unfit))
    if replica.max_sequences:
        most = min(most, replica.max_sequences)
    phase: Phase = "answers" if apart else "both"

    @cache
    def seconds(batch: int) -> tuple[LoadSeconds, ...]:
        return _seconds(stages, task, batch, phase)

    def one_pass(batch: int) -> Pass:
        return _pass(seconds(batch), links, task, batch, phase)

    goal = task.workload.goal.time_per_output_token
    pace = best_pace(batch_sizes(), one_pass, most, len(stages), goal)
    if pace is None:
        least = one_pass(1).round_seconds(1)
        return _Outcome((over_text("the time per output token is", least, goal or 0.0),))
    rate, prompts = pace.tokens_per_second, _seconds(apart, task, 0, "prompts")
    if apart:
        rate = min(rate, task.workload.answer_tokens / max(part.mean.busiest for part in prompts))
    first = _first_token(stages, apart, links, prompt_links, task, pace.batch)
    if first == float("inf"):
        return _Outcome(("the devices of prompts and those of answers do not reach each other",))
    limit = task.workload.goal.time_to_first_token
    if limit is not None and first > limit:
        return _Outcome((over_text("the time to the first token is", first, limit),))
    # Where prompts are the slower part, answers wait for them.
    cycle = pace.seconds / pace.micro_batches * pace.tokens_per_second / rate
    work = _Shown(phase, cycle, task.load.cached_tokens(pace.num_sequences), pace.batch)
    period = task.workload.answer_tokens / rate
    prompt_work = _Shown("prompts", period, task.load.whole_context, task.load.new_prompt_tokens)
    shown = (
        *_shown(stages, seconds(pace.batch), links, task, work),
        *_shown(apart, prompts, prompt_links, task, prompt_work),
    )
    return _Outcome((), pace, rate, first, shown)


@dataclass(frozen=True, slots=True)
class _Shown:
    """How a pipeline runs: seconds from one micro-batch, or prompt, to the next; its tokens."""

    phase: Phase
    cycle: float
    cached: float
    num_tokens: int


def _seconds(
    stages: tuple[PlacedStage, ...], task: Task, batch: int, phase: Phase
) -> tuple[LoadSeconds, ...]:
    return tuple(
        load_seconds(task.costs, task.shape, each.group, each.layers, task.load, batch, phase)
        for each in stages
    )


def _pass(
    seconds: tuple[LoadSeconds, ...],
    links: list[Link | None],
    task: Task,
    batch: int,
    phase: Phase,
) -> Pass:
    size = task.shape.token_bytes
    moved = batch * size
    if phase == "both":
        moved *= 1 + task.load.new_prompt_tokens / task.workload.answer_tokens
    hops, long_hops = (
        sum(link.transfer_seconds(num_bytes) for link in links[:-1] if link)
        for num_bytes in (moved, (batch + task.load.chunk) * size)
    )
    # What goes back from the last stage is a token's number: only the way counts.
    back = links[-1].seconds if links[-1] else 0.0
    busy_wire = max((moved / link.bytes_per_second for link in links[:-1] if link), default=0.0)
    taken = pipeline_pass(
        [StagePass(part.mean.busiest, part.mean.latency, part.long.latency) for part in seconds],
        hops + back,
        long_hops + back,
        task.load.long_share(batch, phase),
    )
    return replace(taken, slowest=max(taken.slowest, busy_wire))


def _first_token(
    stages: tuple[PlacedStage, ...],
    apart: tuple[PlacedStage, ...],
    links: list[Link | None],
    prompt_links: list[Link | None],
    task: Task,
    batch: int,
) -> float:
    """A prompt's chunks one behind the other, each in a step with the answers under way."""
    load = task.load
    step = load.chunk_step(0 if apart else batch)
    each = [
        stage_seconds(task.costs, task.shape, part.group, part.layers, step).latency
        for part in apart or stages
    ]
    moved = load.chunk * task.shape.token_bytes
    hops = (prompt_links if apart else links)[:-1]
    seconds = sum(each) + (load.num_chunks - 1) * max(each)
    seconds += sum(link.transfer_seconds(moved) for link in hops if link)
    return seconds + (_handover_seconds(stages, apart, task) if apart else 0.0)


def _handover_seconds(
    stages: tuple[PlacedStage, ...], apart: tuple[PlacedStage, ...], task: Task
) -> float:
    """The cache of a prompt goes to where its answer is computed."""
    source = task.inventory.device(apart[-1].stage.devices[0])
    target = task.inventory.device(stages[0].stage.devices[0])
    link = task.inventory.link(source, target)
    if link is None:
        return float("inf")
    held = sum(task.shape.cache_bytes(index) for index in range(len(task.shape.layers)))
    return link.transfer_seconds(held * task.workload.prompt_tokens)


def _shown(
    stages: tuple[PlacedStage, ...],
    seconds: tuple[LoadSeconds, ...],
    links: list[Link | None],
    task: Task,
    work: _Shown,
) -> Iterator[StageForecast]:
    for number, (each, both, link) in enumerate(zip(stages, seconds, links, strict=True)):
        taken = both.mean
        held = group_memory(task.costs, task.shape, each.group, each.layers, work.cached)
        is_last = number + 1 == len(stages)
        sent = 0.0 if is_last or link is None else task.shape.token_bytes
        yield StageForecast(
            replica=0,
            stage=number,
            phase=work.phase,
            devices=each.stage.devices,
            helpers=each.stage.attention or each.stage.experts,
            num_layers=each.layers[1] - each.layers[0],
            seconds=taken.main,
            helper_seconds=taken.helper,
            busy=min(1.0, taken.main / work.cycle),
            helper_busy=min(1.0, taken.helper / work.cycle),
            memory_bytes=round(held[0]),
            helper_memory_bytes=round(held[1]),
            sent_bytes_per_token=sent,
            send_seconds=link.transfer_seconds(work.num_tokens * sent) if link and sent else 0.0,
        )
