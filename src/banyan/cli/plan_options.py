"""Options of `banyan serve` about plans: one model over several devices."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from banyan.foundation.errors import InputError

if TYPE_CHECKING:
    from banyan.cli.device_care import CareOptions

PlanOption = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        metavar="FILE",
        help="Cut the model over the devices of this plan ('banyan plan' writes one).",
    ),
]
PlanWorkersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--plan-worker",
        metavar="NAME=PLACE",
        help="Where a device of the plan is: inline:DEVICE, process:DEVICE or tcp://HOST:PORT "
        "('banyan worker' listens there); may be repeated. A worker of its own on the device of "
        "that name by default.",
    ),
]
PlanSecretOption = Annotated[
    Path | None,
    typer.Option(
        "--plan-secret", metavar="FILE", help="The secret that workers of other hosts share."
    ),
]
PlanDevicesOption = Annotated[
    Path | None,
    typer.Option(
        "--plan-devices",
        metavar="FILE",
        help="The inventory ('banyan plan' takes it): a device that is gone is planned around, "
        "one that comes back is used again.",
    ),
]
PlanWorkloadOption = Annotated[
    str,
    typer.Option("--plan-workload", help="Tokens of a usual request, as 'banyan plan' takes them."),
]
RebalanceOption = Annotated[
    bool,
    typer.Option(
        "--rebalance",
        help="Move layers off a device that takes longer than the inventory says, next to others.",
    ),
]
AllowDrainOption = Annotated[
    bool,
    typer.Option(
        "--allow-drain", help="Let 'banyan drain' move the model off devices and back on them."
    ),
]

StandbyOption = Annotated[
    bool,
    typer.Option(
        "--standby/--no-standby",
        help="Under a plan: keep the next engine and its workers launched, without the model, so "
        "that a fault costs its readers a shorter pause. About 70 MB for each process.",
    ),
]


def care_of(
    devices: Path | None, workload: str, *, rebalance: bool, allow_drain: bool
) -> "CareOptions | None":
    """How devices that come and go are planned for; None: they are not.

    Raises:
        InputError: something else about devices is asked for without an inventory.
    """
    if devices is not None:
        # Takes a while to import, and most servers have one device.
        from banyan.cli.device_care import CareOptions  # noqa: PLC0415

        return CareOptions(
            inventory=devices, workload=workload, rebalance=rebalance, allow_drain=allow_drain
        )
    if rebalance or allow_drain:
        given = "--rebalance" if rebalance else "--allow-drain"
        raise InputError(
            f"{given} needs to know what devices there are; name an inventory with --plan-devices"
        )
    return None


def plan_text_of(path: Path | None) -> str | None:
    """Read a plan.

    Raises:
        InputError: the file cannot be read, or holds no plan.
    """
    # Not imported for `banyan --help`.
    from banyan.planner.plan_file import parse_plan  # noqa: PLC0415

    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"the plan {path} cannot be read: {error}") from error
    parse_plan(text)
    return text


def plan_workers_of(given: Sequence[str] | None) -> tuple[tuple[str, str], ...]:
    """Read NAME=PLACE for each worker.

    Raises:
        InputError: one is written otherwise, or a name comes twice.
    """
    from banyan.engine.stages.addresses import parse_address  # noqa: PLC0415

    found: dict[str, str] = {}
    for text in given or ():
        name, equals, place = text.partition("=")
        if not (name and equals):
            raise InputError(f"--plan-worker {text!r} is not NAME=PLACE; give both")
        if name in found:
            raise InputError(f"--plan-worker names {name!r} twice; a device is at one place")
        parse_address(place)
        found[name] = place
    return tuple(found.items())
