"""`banyan simulate`: read a plan, devices and requests, simulate, show. Simulating is pure."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

from rich.table import Table

from banyan.cli.plan import write_file
from banyan.cli.plan_inputs import DTYPES, read_devices
from banyan.cli.shipped import find_model
from banyan.cli.simulate_arguments import SimulateArguments
from banyan.cli.terminal import output, side
from banyan.foundation.errors import InputError
from banyan.foundation.settings import Settings
from banyan.models.description import describe_model
from banyan.planner.goal_text import read_goal
from banyan.planner.model_shape import ModelShape, model_shape
from banyan.planner.plan import Plan
from banyan.planner.plan_check import require_plan
from banyan.planner.plan_file import parse_plan
from banyan.planner.simulation.failures import Failure, parse_failures, random_failures
from banyan.planner.simulation.fleet import SimulationOptions, simulate
from banyan.planner.simulation.picture import draw, summary_lines
from banyan.planner.simulation.replicas import EnginePolicy
from banyan.planner.simulation.result import PERCENTILES, Figures, device_uses, figures
from banyan.planner.simulation.routing import ROUTINGS
from banyan.planner.simulation.trace import MIXES, Trace, made_trace, parse_trace

_HOUR = 3600.0


def run_simulate(arguments: SimulateArguments, settings: Settings) -> Figures:
    """Simulate a plan and show what came of it.

    Raises:
        InputError: a file or an option cannot be used; says what and why.
        StorageFull: a file cannot be written.
    """
    plan = parse_plan(_read(arguments.plan, "plan"))
    devices = read_devices(arguments.devices, arguments.prices, settings)
    inventory = devices.inventory
    shape = _shape(plan, find_model(arguments.model or plan.model), settings)
    require_plan(plan, shape, inventory)
    goal = read_goal(arguments.goal)
    options = _options(arguments)
    trace = _trace(arguments)
    failures = _failures(arguments, plan, trace)
    side().print(
        f"Simulating {len(trace)} requests on {len(plan.replicas)} replicas of {plan.model} ..."
    )
    result = simulate(
        plan, shape, inventory, devices.costs, trace, options=options, failures=failures
    )
    found = figures(result, inventory, goal)
    console = output()
    console.print(_table(found))
    for line in summary_lines(found):
        console.print(line)
    if arguments.goal:
        console.print(f"{found.num_good} answers kept to {arguments.goal}")
    if arguments.html is not None:
        title = f"{plan.model} on {found.num_devices} devices, simulated"
        write_file(arguments.html, draw(title, result, found, device_uses(result, inventory)))
    if arguments.json_path is not None:
        write_file(arguments.json_path, json.dumps(found.plain(), indent=1))
    return found


def _shape(plan: Plan, model: str, settings: Settings) -> ModelShape:
    """The model with the dtypes that the plan was made for."""
    description = describe_model(model, offline=settings.offline)
    # A plan names its dtypes in its fingerprint only: the few there are can be tried.
    shape = model_shape(description.configuration, model, weight_dtype=description.weight_dtype)
    for weight, cache, compute in product(DTYPES, DTYPES, ("bfloat16", "float32")):
        tried = replace(shape, weight_dtype=weight, cache_dtype=cache, compute_dtype=compute)
        if tried.fingerprint == plan.model_fingerprint:
            return tried
    return shape


def _options(arguments: SimulateArguments) -> SimulationOptions:
    if arguments.routing not in ROUTINGS:
        raise InputError(
            f"requests cannot be dealt out by {arguments.routing!r}; choose {' or '.join(ROUTINGS)}"
        )
    return SimulationOptions(
        policy=EnginePolicy(
            token_budget=arguments.max_num_batched_tokens,
            max_running=arguments.max_num_seqs,
            memory_share=arguments.memory_share,
        ),
        routing=arguments.routing,
        notice_seconds=arguments.notice_seconds,
        shared_prompt_share=arguments.shared_prompt_share,
    )


def _trace(arguments: SimulateArguments) -> Trace:
    if arguments.trace is not None and arguments.rate is None:
        return parse_trace(_read(arguments.trace, "trace"))
    if arguments.trace is not None or arguments.rate is None:
        raise InputError("give either --trace with a file of requests or --rate with how many come")
    if arguments.mix not in MIXES:
        raise InputError(f"there is no mix {arguments.mix!r}; choose {', '.join(MIXES)}")
    lengths = MIXES[arguments.mix]
    if arguments.prompt_tokens is not None:
        size = arguments.prompt_tokens
        lengths = replace(lengths, prompt=size, prompt_spread=0.0, longest_prompt=size)
    if arguments.answer_tokens is not None:
        size = arguments.answer_tokens
        lengths = replace(lengths, answer=size, answer_spread=0.0, longest_answer=size)
    return made_trace(arguments.rate, arguments.seconds, lengths, arguments.seed)


def _failures(arguments: SimulateArguments, plan: Plan, trace: Trace) -> tuple[Failure, ...]:
    found: tuple[Failure, ...] = ()
    if arguments.failures is not None:
        found = parse_failures(_read(arguments.failures, "failures"))
    if arguments.mean_hours_between_failures is not None:
        names = dict.fromkeys(name for replica in plan.replicas for name in replica.all_devices)
        found += random_failures(
            list(names),
            seconds=max(trace.seconds, 1.0),
            mean_seconds_between=arguments.mean_hours_between_failures * _HOUR,
            repair_seconds=arguments.repair_seconds,
            seed=arguments.seed,
        )
    return found


def _table(found: Figures) -> Table:
    columns = ("mean", *(f"p{share}" for share in PERCENTILES))
    table = Table("milliseconds", *columns, box=None)
    for name, row in found.milliseconds.items():
        table.add_row(name, *(f"{row[column]:.1f}" for column in columns))
    return table


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"the {what} {path} cannot be read: it is no text in UTF-8") from error
    except OSError as error:
        raise InputError(f"the {what} {path} cannot be read: {error.strerror}") from error
