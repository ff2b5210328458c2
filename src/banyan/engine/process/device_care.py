"""Keeps a model served while its devices come and go: plans anew for those that are left.

Owns when a plan is replaced and by which; `fleet` knows how the devices are, a `Planning` what is
best over them, a `Recovery` is what the supervisor asks after a death. Belongs to one event loop.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from msgspec import structs

from banyan.engine.process.client import EngineClient
from banyan.engine.process.fleet import DeviceState, Fleet, FleetPatience
from banyan.engine.process.foresight import CompileAhead, Foresight, Planning
from banyan.engine.process.messages import EngineSettings, Failed
from banyan.engine.process.pace_watch import PaceWatch
from banyan.foundation.errors import BanyanError, InputError, RequestError
from banyan.planner.plan import Plan
from banyan.planner.plan_file import print_plan
from banyan.planner.serving.replanning import FleetCondition

_logger = logging.getLogger(__name__)

_TICK_SECONDS = 0.25
_WORTH_MOVING = 1.1
"""A move makes every reader wait for seconds; fewer tokens more than this do not pay for it."""

_QUICK_SECONDS, _PATIENT_SECONDS = 1.0, 10.0
"""To reach a device while requests wait for the answer, and while none does."""

Reach = Callable[[str, float], Awaitable[str | None]]
"""Whether a device can be used within some seconds: None, or one sentence saying why not."""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """How a device is.

    Attributes:
        name: in the inventory.
        state: whether it can be used.
        is_used: the present plan has work on it.
        detail: why it cannot be used; empty where it can.
        slowdown: how many times longer than predicted its steps take.
    """

    name: str
    state: DeviceState
    is_used: bool
    detail: str = ""
    slowdown: float = 1.0


class DeviceCare:
    """Sees to the devices of one engine.

    Args:
        names: of all devices of the inventory.
        plan: what the operator wants where nothing is wrong.
        workers: where devices are, as `EngineOptions.plan_workers` has it.
        planning: for all else.
        reach: looks whether a device can be used.
        patience: when one counts as lost.
        pace: sees which are slow; None leaves layers where they are planned.
        compile_ahead: compiles for plans that may come next; None leaves that to engines.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        plan: Plan,
        workers: tuple[tuple[str, str], ...],
        planning: Planning,
        reach: Reach,
        patience: FleetPatience | None = None,
        pace: PaceWatch | None = None,
        compile_ahead: CompileAhead | None = None,
    ) -> None:
        self._fleet = Fleet(names=names)
        self._usual, self._present = plan, plan
        self._workers = workers
        self._planning = planning
        self._reach = reach
        self._patience = patience or FleetPatience()
        self._pace = pace
        self._foresight = Foresight(planning, compile_ahead)
        self._foreseen: Plan | None = None
        self._good = plan
        self._news = ""
        self._adapting = asyncio.Lock()

    @property
    def present(self) -> Plan:
        """The plan that is carried out, or started."""
        return self._present

    def facts(self) -> tuple[DeviceFacts, ...]:
        """How every device is."""
        used = _devices_of(self._present)
        return tuple(
            DeviceFacts(
                name,
                self._fleet.state(name),
                name in used,
                self._fleet.losses[name].reason if name in self._fleet.losses else "",
                self._fleet.slowdowns.get(name, 1.0),
            )
            for name in self._fleet.names
        )

    async def after(
        self, died: Failed, settings: EngineSettings, *, has_served: bool
    ) -> EngineSettings:
        """See `Recovery`: the same plan again, unless a device of it is lost."""
        if has_served:
            self._good = self._present
        self._news = ""
        if died.place in self._fleet.names:
            # From a channel that broke nobody can tell whether there is still somebody behind it;
            # where nothing was heard of it, waiting once more for a word would tell no more. A
            # worker of this host is started anew, which tells.
            is_far = dict(self._workers).get(died.place, "").startswith("tcp:")
            asks = has_served and is_far and not died.is_silent
            reason = await self._reach(died.place, _QUICK_SECONDS) if asks else None
            is_gone = not has_served or reason is not None or (is_far and died.is_silent)
            self._fleet = self._fleet.failed(
                died.place,
                reason or died.message,
                time.monotonic(),
                self._patience,
                is_gone=is_gone,
            )
        elif not has_served and self._present != self._good:
            _logger.error(
                "the plan that was tried does not start (%s); back to the one before", died.message
            )
            return self._settings_for(settings, self._good)
        try:
            return self._settings_for(settings, await self._best())
        except BanyanError as error:
            # Whatever goes wrong in planning: an engine with the old plan is better than none.
            _logger.error("%s; the plan stays as it is", error)
            return settings

    async def watch(self, client: EngineClient) -> None:
        """Look for lost devices, and take those back that answer; until cancelled."""
        looking_ahead = asyncio.create_task(self._look_ahead(client))
        try:
            await self._watch(client)
        finally:
            looking_ahead.cancel()

    async def _watch(self, client: EngineClient) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            for name in self._fleet.to_look_for(time.monotonic()):
                if await self._found(name):
                    self._news = f"{name} can be used again"
            await self._see_pace(client)
            if self._news and client.status().state == "ready":
                await self._adapt_quietly(client, self._news)

    async def _look_ahead(self, client: EngineClient) -> None:
        """Plan and compile for the loss of each device, so that only loading is left then."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            present = self._present
            if client.status().state != "ready" or present == self._foreseen:
                continue
            self._foreseen = present
            for name in _devices_of(present):
                now = self._fleet.condition
                slowdowns = {other: f for other, f in now.slowdowns.items() if other != name}
                lost = FleetCondition(missing=now.missing | {name}, slowdowns=slowdowns)
                try:
                    plan = await self._foresight.plan(lost)
                except BanyanError:
                    # Nothing fits without it: there is nothing to prepare.
                    continue
                if self._present != present:
                    break
                await self._foresight.compile(self._with_plan(client.settings, plan))

    async def drain(self, client: EngineClient, name: str) -> None:
        """Move all work off a device, for as long as `undrain` is not called.

        Raises:
            RequestError: there is no such device, or the others have no room for the model.
            EngineStopped: the engine could not be moved; the next one goes without the device.
        """
        self._check_name(name)
        before = self._fleet
        self._fleet = before.with_drained(name, is_drained=True)
        try:
            await self._best()
        except InputError as error:
            self._fleet = self._fleet.with_drained(name, is_drained=False)
            raise RequestError(f"{name} cannot be drained: {error}", parameter="device") from error
        await self._adapt(client, f"{name} is drained")

    async def undrain(self, client: EngineClient, name: str) -> None:
        """Let a drained device work again, or look for a lost one now; raises as `drain`."""
        self._check_name(name)
        if name in self._fleet.losses:
            await self._found(name)
        slow = {other: f for other, f in self._fleet.slowdowns.items() if other != name}
        self._fleet = self._fleet.with_drained(name, is_drained=False).with_slowdowns(slow)
        await self._adapt(client, f"{name} is no longer drained")

    def _check_name(self, name: str) -> None:
        if name not in self._fleet.names:
            known = ", ".join(self._fleet.names[:8])
            raise RequestError(
                f"there is no device {name!r}; there are {known}", parameter="device"
            )

    async def _found(self, name: str) -> bool:
        """Look for a lost device."""
        try:
            reason = await self._reach(name, _PATIENT_SECONDS)
        except OSError as error:
            reason = f"{name} cannot be looked for: {error}"
        if name not in self._fleet.losses:
            return False
        now = time.monotonic()
        if reason is None:
            self._fleet = self._fleet.found(name, now)
            return True
        self._fleet = self._fleet.not_found(name, reason, now, self._patience)
        return False

    async def _see_pace(self, client: EngineClient) -> None:
        """Look whether a device takes longer than it should."""
        pace, now = self._pace, time.monotonic()
        if pace is None or not pace.is_due(now) or client.status().state != "ready":
            return
        if not pace.knows(self._present):
            plan = self._present
            pace.begin(plan, await self._expected(plan), self._fleet.slowdowns)
        found = pace.look(client.busy_seconds, now)
        if found is not None:
            unused = set(self._fleet.slowdowns) - set(_devices_of(self._present))
            kept = {name: self._fleet.slowdowns[name] for name in unused}
            self._fleet = self._fleet.with_slowdowns({**kept, **found})
            slow = [f"{name} takes {factor:.1f} times longer" for name, factor in found.items()]
            self._news = " and ".join(slow) or "no device is slow any more"

    async def _expected(self, plan: Plan) -> Mapping[str, float]:
        """What each device of a plan should take; empty where that cannot be said."""
        try:
            return await asyncio.to_thread(self._planning.expected, plan)
        except BanyanError as error:
            _logger.warning(
                "slow devices are not looked for, since nothing is predicted: %s", error
            )
            return {}

    async def _adapt_quietly(self, client: EngineClient, reason: str) -> None:
        try:
            await self._adapt(client, reason)
        except BanyanError as error:
            _logger.warning("%s, but the model does not move: %s", reason, error)

    async def _adapt(self, client: EngineClient, reason: str) -> None:
        """Carry out the best plan, if it is another one."""
        async with self._adapting:
            self._news = ""
            while True:
                before, best = self._present, await self._best()
                if best == before:
                    return
                # While the present engine answers, so that nobody waits for it; a device may be
                # lost meanwhile.
                await self._foresight.compile(self._with_plan(client.settings, best))
                if self._present == before and await self._best() == best:
                    break
            settings = self._settings_for(client.settings, best)
            _logger.warning("%s; the model moves to %s", reason, ", ".join(_devices_of(best)))
            self._good = before
            try:
                await client.move(settings, reason)
            except BanyanError:
                if client.settings != settings:
                    # It was not even tried: the engine was not there, or was being replaced.
                    self._present, self._news = before, reason
                raise

    async def _best(self) -> Plan:
        """The best plan over the devices as they are now.

        Raises:
            InputError: nothing fits.
        """
        condition = self._fleet.condition
        if not condition.slowdowns and not condition.missing & set(_devices_of(self._usual)):
            return self._usual
        best = await self._foresight.plan(condition)
        gain = await asyncio.to_thread(self._planning.gain, condition, self._present, best)
        return best if gain >= _WORTH_MOVING else self._present

    def _settings_for(self, settings: EngineSettings, plan: Plan) -> EngineSettings:
        """The same engine with another plan, which is the present one from now on."""
        self._present = plan
        return self._with_plan(settings, plan)

    def _with_plan(self, settings: EngineSettings, plan: Plan) -> EngineSettings:
        """The same engine with another plan."""
        used = _devices_of(plan)
        options = replace(
            settings.options,
            plan=print_plan(plan),
            plan_workers=tuple((name, at) for name, at in self._workers if name in used),
        )
        return structs.replace(settings, options=options)


def _devices_of(plan: Plan) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for each in plan.replicas for name in each.all_devices))
