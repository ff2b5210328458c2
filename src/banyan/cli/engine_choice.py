"""Which client `banyan serve` gives its API: of one engine, or of a plan's replicas."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, Union

from banyan.engine.process.client import EngineClient
from banyan.engine.process.messages import EngineSettings, Loading
from banyan.engine.process.recovery import Recovery
from banyan.engine.process.supervisor import RestartPolicy

if TYPE_CHECKING:
    from banyan.engine.process.replicas import ReplicaClient

ServedEngine: TypeAlias = Union[EngineClient, "ReplicaClient"]


def open_engine(
    settings: EngineSettings,
    *,
    most_per_caller: int,
    on_loading: Callable[[Loading], None],
    recovery: Recovery | None,
    keeps_standby: bool = False,
) -> ServedEngine:
    """The client of an engine, or of one for each replica; nothing is started.

    Args:
        settings: with the whole plan, if there is one.
        most_per_caller: most requests of one caller at a time; 0 sets no limit.
        on_loading: told of each step of the start.
        recovery: what follows an engine that died; for one alone.
        keeps_standby: whether the next process is launched ahead of time; for one alone, since the
            requests of a replica that died go on in another one at once.

    Raises:
        InputError: the plan cannot be read.
    """
    if settings.options.plan is not None:
        # Pulls in the planner, which a server of one device does without.
        from banyan.engine.process.replicas import ReplicaClient  # noqa: PLC0415
        from banyan.planner.plan_file import parse_plan  # noqa: PLC0415

        if len(parse_plan(settings.options.plan).replicas) > 1:
            return ReplicaClient(settings, most_per_caller=most_per_caller, on_loading=on_loading)
    return EngineClient(
        settings,
        policy=RestartPolicy(keeps_standby=keeps_standby),
        most_per_caller=most_per_caller,
        on_loading=on_loading,
        recovery=recovery,
    )
