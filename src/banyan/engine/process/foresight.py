"""Plans and programs before they are needed: what is planned or compiled while nobody waits.

Owns what was planned and compiled already. Belongs to one event loop.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from banyan.engine.process.messages import EngineSettings
from banyan.planner.plan import Plan
from banyan.planner.serving.replanning import FleetCondition

_logger = logging.getLogger(__name__)

_MOST_REMEMBERED = 256

CompileAhead = Callable[[EngineSettings], Awaitable[None]]
"""Compiles what an engine of these settings would run on this host."""


class Planning(Protocol):
    """Finds plans over some of the devices; its calls take seconds."""

    def plan(self, condition: FleetCondition) -> Plan:
        """Find the best that one engine carries out.

        Raises:
            InputError: nothing fits; says what is missing.
        """
        ...

    def expected(self, plan: Plan) -> Mapping[str, float]:
        """What each device of a plan should compute for a step, in seconds; only shares count."""
        ...

    def gain(self, condition: FleetCondition, present: Plan, other: Plan) -> float:
        """How many times the tokens per second of the present plan another one gives."""
        ...


class Foresight:
    """Remembers plans by the condition that they were made for, and what was compiled."""

    def __init__(self, planning: Planning, compile_ahead: CompileAhead | None) -> None:
        """Plan with one, compile with the other; None lets engines compile when they start."""
        self._planning = planning
        self._compile_ahead = compile_ahead
        self._plans: dict[object, Plan] = {}
        self._compiled: set[object] = set()

    async def plan(self, condition: FleetCondition) -> Plan:
        """The best plan over the devices as they are; at once where it was asked for before.

        Raises:
            InputError: nothing fits; says what is missing.
        """
        key = condition.missing, frozenset(condition.slowdowns.items())
        if key not in self._plans:
            if len(self._plans) >= _MOST_REMEMBERED:
                self._plans.clear()
            self._plans[key] = await asyncio.to_thread(self._planning.plan, condition)
        return self._plans[key]

    async def compile(self, settings: EngineSettings) -> None:
        """Compile for an engine that will start, once for each plan of a model."""
        key = settings.model, settings.options.plan
        if self._compile_ahead is None or key in self._compiled:
            return
        try:
            await self._compile_ahead(settings)
            self._compiled.add(key)
        except OSError as error:
            _logger.warning("nothing is compiled ahead of time: %s", error)
