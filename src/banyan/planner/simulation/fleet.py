"""All replicas of a plan on one simulated clock: requests are dealt out, devices fail, work ends.

An event is the end of steps of one replica, a request, a cache handed over, or a failure; they are
taken in the order of their times. Replicas share nothing but the router. Pure: the same plan, trace
and failures give the same result.
"""

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np

from banyan.foundation.errors import InputError
from banyan.planner.costs import CostModel
from banyan.planner.inventory import Inventory
from banyan.planner.model_shape import ModelShape
from banyan.planner.plan import Plan
from banyan.planner.simulation.engine import NEVER
from banyan.planner.simulation.events import Event, HandOver, Notice, Return, Stop
from banyan.planner.simulation.failures import Failure
from banyan.planner.simulation.replicas import Chain, Chains, Engine, EnginePolicy, check_devices
from banyan.planner.simulation.requests import Requests
from banyan.planner.simulation.result import FINISHED, NO_REPLICA, TOO_LONG, SimulationResult, Usage
from banyan.planner.simulation.routing import Router, Routing
from banyan.planner.simulation.stage_costs import BLOCK_TOKENS
from banyan.planner.simulation.trace import Trace

_SPANS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationOptions:
    """What a simulation assumes.

    Attributes:
        policy: of every engine.
        routing: how requests are dealt out.
        notice_seconds: until the loss of a device is noticed and its requests go elsewhere.
        shared_prompt_share: of a prompt that is in the prefix cache already, 0 to 1.
    """

    policy: EnginePolicy = field(default_factory=EnginePolicy)
    routing: Routing = "least_loaded"
    notice_seconds: float = 2.0
    shared_prompt_share: float = 0.0


def simulate(
    plan: Plan,
    model: ModelShape,
    inventory: Inventory,
    costs: CostModel,
    trace: Trace,
    *,
    options: SimulationOptions | None = None,
    failures: Sequence[Failure] = (),
    together: CostModel | None = None,
) -> SimulationResult:
    """Run all requests of a trace to their end.

    Args:
        plan: whose replicas answer.
        model: that it is for.
        inventory: of its devices.
        costs: predicts parts of steps.
        trace: the requests.
        options: what is assumed.
        failures: of devices.
        together: predicts parts while others of the same replica compute, too, where devices share
            a memory or cores; None: as alone.

    Raises:
        InputError: the plan is for another model, names a device that is not there or twice, or
            does not fit into its memory; a failure names a device that the inventory has not.
    """
    if plan.model_fingerprint != model.fingerprint:
        raise InputError(
            f"the plan is for {plan.model!r} ({plan.model_fingerprint}), not for {model.name!r} "
            f"({model.fingerprint}); plan again for this model and these dtypes"
        )
    if not plan.replicas:
        raise InputError("the plan has no replica; plan again")
    chosen = options or SimulationOptions()
    chains = Chains(model, inventory, costs, chosen.policy, together=together)
    return _Fleet(plan, chains, trace, chosen).run(failures)


@dataclass(slots=True)
class _Replica:
    """A replica as the fleet sees it.

    Attributes:
        answering, prompting: its chains as fast as they are made.
        engine: computes answers, and prompts unless `prompts` does.
        prompts: computes prompts and hands their caches over.
        num_stopped: devices that stand still.
        slowness: device -> factor.
        held: requests that were sent to it after it stopped, before anybody noticed.
    """

    answering: Chain
    prompting: Chain | None
    engine: Engine
    prompts: Engine | None
    num_stopped: int = 0
    slowness: dict[str, float] = field(default_factory=dict)
    held: list[int] = field(default_factory=list)


class _Fleet:
    """Owns the clock of one run."""

    def __init__(
        self, plan: Plan, chains: Chains, trace: Trace, options: SimulationOptions
    ) -> None:
        self._plan = plan
        self._chains = chains
        self._trace = trace
        self._options = options
        self._bin_seconds = max(trace.seconds / _SPANS, 1e-3)
        self._replica_of = check_devices(plan, chains.devices)
        prompt, answer = array("i", trace.prompt.tobytes()), array("i", trace.answer.tobytes())
        self._requests = Requests.of(prompt, answer)
        # Where prompts are computed apart: one token is wanted there, the times are those of all.
        self._prompts = Requests(
            prompt,
            array("i", [1]) * len(prompt),
            self._requests.written[:],
            self._requests.cached[:],
            self._requests.first_token,
            self._requests.finished[:],
            self._requests.preempted,
        )
        self._reason = array("b", bytes([FINISHED]) * len(prompt))
        self._assigned = array("i", [-1]) * len(prompt)
        self._replicas = [self._made(index) for index in range(len(plan.replicas))]
        # Engines by number: two for each replica, the second for prompts apart.
        self._engines = [
            engine for replica in self._replicas for engine in (replica.engine, replica.prompts)
        ]
        context = self._mean_context()
        speeds = [replica.answering.tokens_per_second(context) for replica in self._replicas]
        self._router = Router(speeds, options.routing)
        self._roomiest = sorted(range(len(self._replicas)), key=self._room, reverse=True)
        self._line: list[tuple[float, int, int]] = []
        self._events: dict[int, Event] = {}
        self._homeless: list[int] = []
        self._num_events = self._num_scheduled = 0

    def run(self, failures: Sequence[Failure]) -> SimulationResult:
        """Take all events."""
        for failure in failures:
            self._chains.devices.device(failure.device)
            replica = self._replica_of.get(failure.device)
            if replica is not None:
                self._schedule(failure.at, Stop(failure, replica))
        arrivals = self._trace.arrival.tolist()
        arrivals.append(math.inf)
        line, engines, coming = self._line, self._engines, 0
        arrival = arrivals[0]
        while line or arrival < math.inf:
            if not line or arrival <= line[0][0]:
                self._deal_out(coming, arrival)
                coming += 1
                arrival = arrivals[coming]
                continue
            now, kind, number = heappop(line)
            self._num_events += 1
            if kind:
                self._take(self._events.pop(number), now)
                continue
            engine = engines[number]
            if engine is not None and engine.until == now:
                self._advance(number, engine, now)
        for request in self._homeless:
            self._reason[request] = NO_REPLICA
        return self._result(tuple(failures))

    def _made(self, index: int) -> _Replica:
        replica = self._plan.replicas[index]
        answering = self._chains.answering(replica, {})
        prompting = self._chains.prompting(replica, {})
        seconds = self._bin_seconds
        return _Replica(
            answering,
            prompting,
            answering.engine(self._requests, bin_seconds=seconds),
            None if prompting is None else prompting.engine(self._prompts, bin_seconds=seconds),
        )

    def _mean_context(self) -> int:
        if not len(self._trace):
            return 1
        return max(1, int(self._trace.prompt.mean() + self._trace.answer.mean() / 2))

    def _room(self, index: int) -> int:
        """Tokens of the longest request that a replica can hold."""
        replica = self._replicas[index]
        blocks = replica.engine.limits.num_blocks
        if replica.prompts is not None:
            blocks = min(blocks, replica.prompts.limits.num_blocks)
        return blocks * BLOCK_TOKENS

    def _deal_out(self, request: int, now: float) -> None:
        """Send a request to a replica, or note why not."""
        needed = self._requests.prompt[request] + self._requests.answer[request] - 1
        if needed > self._room(self._roomiest[0]):
            self._reason[request] = TOO_LONG
            return
        index = self._router.choose()
        if index is not None and needed > self._room(index):
            self._router.finish(index)
            index = self._roomy(needed)
        if index is None:
            self._homeless.append(request)
            return
        self._assigned[request] = index
        self._send(request, index, now)

    def _roomy(self, needed: int) -> int | None:
        """The roomiest replica that is open, where the one whose turn it is was too small."""
        for index in self._roomiest:
            if self._router.is_open(index):
                if needed > self._room(index):
                    return None
                self._router.assign(index)
                return index
        return None

    def _send(self, request: int, index: int, now: float) -> None:
        replica = self._replicas[index]
        if replica.num_stopped:
            replica.held.append(request)
            return
        requests = self._requests
        prompt = requests.prompt[request]
        found = min(int(prompt * self._options.shared_prompt_share), prompt - 1)
        if replica.prompts is not None:
            self._prompts.written[request] = requests.written[request]
            self._prompts.answer[request] = requests.written[request] + 1
            self._prompts.cached[request] = found
            self._arrive(2 * index + 1, request, now)
        else:
            requests.cached[request] = found
            self._arrive(2 * index, request, now)

    def _arrive(self, number: int, request: int, now: float) -> None:
        engine = self._engines[number]
        assert engine is not None
        before = engine.until
        engine.arrive(request, now)
        if engine.until != before:
            heappush(self._line, (engine.until, 0, number))

    def _advance(self, number: int, engine: Engine, now: float) -> None:
        done = engine.advance()
        if engine.until < NEVER:
            heappush(self._line, (engine.until, 0, number))
        if not done:
            return
        index = number // 2
        if number % 2:
            done = self._hand_over(done, index, now)
        if done:
            self._router.finish(index, len(done))

    def _hand_over(self, done: Iterable[int], index: int, now: float) -> list[int]:
        """Send caches of prompts to where answers are computed; returns those that want no more."""
        replica, requests = self._replicas[index], self._requests
        assert replica.prompting is not None
        whole = []
        for request in done:
            written = self._prompts.written[request]
            requests.written[request] = written
            if written == requests.answer[request]:
                requests.finished[request] = now
                whole.append(request)
                continue
            known = requests.prompt[request] + written
            seconds = replica.prompting.costs.hand_over(replica.answering.costs, known - 1)
            requests.cached[request] = known - 1
            self._schedule(now + seconds, HandOver(request, index))
        return whole

    def _schedule(self, at: float, event: Event) -> None:
        # Behind the engines: what ends now is not lost with what stops now.
        self._num_scheduled += 1
        self._events[self._num_scheduled] = event
        heappush(self._line, (at, 1, self._num_scheduled))

    def _take(self, event: Event, now: float) -> None:
        if isinstance(event, HandOver):
            self._receive(event, now)
        elif isinstance(event, Stop):
            self._fail(event, now)
        elif isinstance(event, Notice):
            self._move(event, now)
        else:
            self._mend(event, now)

    def _receive(self, event: HandOver, now: float) -> None:
        replica = self._replicas[event.replica]
        if not replica.num_stopped:
            self._arrive(2 * event.replica, event.request, now)
        elif self._router.is_open(event.replica):
            replica.held.append(event.request)
        else:
            self._router.finish(event.replica)
            self._deal_out(event.request, now)

    def _fail(self, event: Stop, now: float) -> None:
        failure, index = event.failure, event.replica
        replica = self._replicas[index]
        notice = self._options.notice_seconds
        if failure.kind == "slow":
            replica.slowness[failure.device] = failure.factor
            self._pace(index, now)
            back = now + failure.seconds
        else:
            back = now + max(failure.seconds, notice)
            replica.num_stopped += 1
            lost = []
            for engine in (replica.prompts, replica.engine):
                if engine is not None and replica.num_stopped == 1:
                    lost += engine.abort(now)
            self._schedule(now + notice, Notice(index, lost))
        if back < math.inf:
            self._schedule(back, Return(failure, index))

    def _move(self, event: Notice, now: float) -> None:
        """The loss is noticed: its requests go elsewhere, with the tokens they have."""
        replica = self._replicas[event.replica]
        self._router.close(event.replica)
        moved = [*event.lost, *replica.held]
        replica.held = []
        self._router.finish(event.replica, len(moved))
        for request in moved:
            self._deal_out(request, now)

    def _mend(self, event: Return, now: float) -> None:
        replica = self._replicas[event.replica]
        if event.failure.kind == "slow":
            replica.slowness.pop(event.failure.device, None)
            self._pace(event.replica, now)
            return
        replica.num_stopped -= 1
        if replica.num_stopped == 0:
            self._router.open(event.replica)
            waiting, self._homeless = self._homeless, []
            for request in waiting:
                self._deal_out(request, now)

    def _pace(self, index: int, now: float) -> None:
        """A replica takes up the pace of its slow devices."""
        replica, plan = self._replicas[index], self._plan.replicas[index]
        slow = replica.slowness
        chains = (self._chains.answering(plan, slow), self._chains.prompting(plan, slow))
        for number, chain in enumerate(chains, start=2 * index):
            engine = self._engines[number]
            if engine is not None and chain is not None:
                before = engine.until
                engine.change_times(chain.times, now)
                if engine.until != before:
                    heappush(self._line, (engine.until, 0, number))

    def _result(self, failures: tuple[Failure, ...]) -> SimulationResult:
        requests = self._requests
        return SimulationResult(
            trace=self._trace,
            first_token=np.array(requests.first_token),
            finished=np.array(requests.finished),
            reason=np.array(self._reason, dtype=np.int8),
            replica=np.array(self._assigned, dtype=np.int32),
            preempted=np.array(requests.preempted, dtype=np.int32),
            bin_seconds=self._bin_seconds,
            usage=tuple(self._usages()),
            failures=failures,
            num_events=self._num_events + len(self._trace),
        )

    def _usages(self) -> Iterable[Usage]:
        for index, replica in enumerate(self._replicas):
            plan = self._plan.replicas[index]
            for stages, engine in ((plan.stages, replica.engine), (plan.prefill, replica.prompts)):
                if engine is not None:
                    meter = engine.meter
                    yield Usage(index, stages, meter.busy, tuple(meter.part_busy), engine.num_steps)
