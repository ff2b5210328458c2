"""What an engine process does before it is told to serve, so that it can begin at once."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

from banyan.engine.process.messages import FAKE_MODEL, EngineSettings
from banyan.foundation.errors import BanyanError

if TYPE_CHECKING:
    from banyan.engine.starting.worker_processes import WaitingWorkers

_logger = logging.getLogger("banyan.engine")

_IMPORTED_BY_A_START = (
    "banyan.engine.starting.loading",
    "banyan.engine.stages.staged_program",
)


class Preparation:
    """Modules that are imported and workers that wait; `close` ends those that nobody took."""

    def __init__(self) -> None:
        self._waiting: WaitingWorkers | None = None

    @property
    def waiting(self) -> "WaitingWorkers | None":
        """Workers that were started ahead of time; None where there are none."""
        return self._waiting

    def get_ready(self, settings: EngineSettings) -> None:
        """Prepare for these settings, or for others than before; opens no device."""
        if settings.model == FAKE_MODEL:
            return
        try:
            for name in _IMPORTED_BY_A_START:
                import_module(name)
            self._start_workers(settings)
        except (BanyanError, OSError) as error:
            # Whoever starts for good hears it then.
            _logger.warning("the engine that stands by is not ready: %s", error)

    def _start_workers(self, settings: EngineSettings) -> None:
        # Pulls in the compiler; the fake model must start where nothing can be compiled.
        from banyan.engine.stages.addresses import addresses_of  # noqa: PLC0415
        from banyan.engine.starting.worker_processes import WaitingWorkers  # noqa: PLC0415
        from banyan.planner.plan_file import parse_plan  # noqa: PLC0415

        options = settings.options
        if options.plan is None:
            return
        plan = parse_plan(options.plan)
        if any(replica.prefill for replica in plan.replicas):
            # A place may have two workers there, which a name does not tell apart.
            return
        places = tuple(dict.fromkeys(name for each in plan.replicas for name in each.all_devices))
        addresses = addresses_of(places, options.plan_workers)
        self._waiting = self._waiting or WaitingWorkers()
        self._waiting.start(place for place in places if addresses[place].kind == "process")

    def close(self) -> None:
        """End what nobody took."""
        if self._waiting is not None:
            self._waiting.close()
