"""Which plan is carried out as devices come and go; the engine is a stand-in that notes moves."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

import pytest
from msgspec import structs

from banyan.engine.options import EngineOptions
from banyan.engine.process.client import EngineClient
from banyan.engine.process.device_care import DeviceCare
from banyan.engine.process.fleet import FleetPatience
from banyan.engine.process.foresight import Foresight
from banyan.engine.process.messages import EngineSettings, Failed
from banyan.engine.process.pace_watch import PaceWatch
from banyan.engine.process.status import EngineStatus, ModelFacts
from banyan.engine.process.stragglers import StragglerRules
from banyan.foundation.errors import BanyanError, EngineStopped, InputError, RequestError
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_file import parse_plan, print_plan
from banyan.planner.serving.replanning import FleetCondition

WORKERS: tuple[tuple[str, str], ...] = (("a", "tcp://one:1"), ("b", "tcp://two:2"))


def plan_over(names: str) -> Plan:
    stages = tuple(Stage(n, n + 1, (name,)) for n, name in enumerate(names))
    return Plan(model="m", model_fingerprint="", num_layers=len(names), replicas=(Replica(stages),))


def used(settings: EngineSettings) -> str:
    assert settings.options.plan is not None
    return "".join(parse_plan(settings.options.plan).replicas[0].all_devices)


SETTINGS = EngineSettings(
    model="m",
    options=EngineOptions(plan=print_plan(plan_over("ab")), plan_workers=WORKERS),
    cache_directory="/none",
)


@dataclass
class AllThatIsLeft:
    """A planning that uses every device there is; c alone has no room."""

    asked: list[FleetCondition] = field(default_factory=list)
    failure: BanyanError | None = None

    def plan(self, condition: FleetCondition) -> Plan:
        self.asked.append(condition)
        if self.failure is not None:
            raise self.failure
        names = "".join(name for name in "abc" if name not in condition.missing)
        if names in {"", "c"}:
            raise InputError("3 MiB short on c")
        return plan_over(names)

    def expected(self, plan: Plan) -> dict[str, float]:
        if self.failure is not None:
            raise self.failure
        return dict.fromkeys(plan.replicas[0].all_devices, 0.1)

    def gain(self, condition: FleetCondition, present: Plan, other: Plan) -> float:
        gone = condition.missing & set(present.replicas[0].all_devices)
        return 2.0 if gone or present != other else 1.0


@dataclass
class Engine:
    """Moves at once, or fails as told."""

    settings: EngineSettings = SETTINGS
    moves: list[tuple[str, str]] = field(default_factory=list)
    failure: EngineStopped | None = None
    is_launched: bool = True
    busy_seconds: dict[str, float] = field(default_factory=dict)

    async def move(self, settings: EngineSettings, reason: str) -> ModelFacts:
        if self.is_launched:
            self.settings = settings
            self.moves.append((used(settings), reason))
        if self.failure is not None:
            raise self.failure
        return ModelFacts("decoder", 10)

    def status(self) -> EngineStatus:
        return EngineStatus("ready", "", None)


@dataclass
class Place:
    """One test's care, engine and devices that can be reached."""

    engine: Engine
    planning: AllThatIsLeft
    unreachable: set[str]
    care: DeviceCare = field(init=False)

    def __post_init__(self) -> None:
        self.care = DeviceCare(
            ("a", "b", "c"),
            plan_over("ab"),
            WORKERS,
            self.planning,
            self.reach,
            FleetPatience(first_look_seconds=0.01, most_failures=3),
        )

    @property
    def client(self) -> EngineClient:
        return cast("EngineClient", self.engine)

    async def reach(self, name: str, seconds: float) -> str | None:
        assert seconds >= 1.0
        return f"{name} does not answer" if name in self.unreachable else None

    async def died(self, place: str, *, has_served: bool = True) -> str:
        failed = Failed(f"{place} failed", is_input=False, place=place)
        self.engine.settings = await self.care.after(
            failed, self.engine.settings, has_served=has_served
        )
        return used(self.engine.settings)

    async def watch_until(self, happens: Callable[[], bool]) -> None:
        watching = asyncio.create_task(self.care.watch(self.client))
        try:
            while not happens():
                assert not watching.done(), watching.exception()
                await asyncio.sleep(0.01)
        finally:
            watching.cancel()


def run(test: Callable[[Place], Awaitable[None]]) -> None:
    async def whole() -> None:
        place = Place(Engine(), AllThatIsLeft(), set())
        await asyncio.wait_for(test(place), 20)

    asyncio.run(whole())


def test_a_worker_that_died_and_answers_again_keeps_its_layers() -> None:
    async def test(place: Place) -> None:
        assert await place.died("b") == "ab"
        assert await place.died("") == "ab"
        assert place.planning.asked == []

    run(test)


def test_one_that_no_longer_answers_is_planned_around_and_taken_back() -> None:
    async def test(place: Place) -> None:
        place.unreachable = {"b"}
        assert await place.died("b") == "ac"
        assert place.engine.settings.options.plan_workers == WORKERS[:1]
        facts = {each.name: each for each in place.care.facts()}
        assert (facts["b"].state, facts["b"].detail) == ("lost", "b does not answer")
        assert facts["c"].is_used
        place.unreachable = set()
        await place.watch_until(lambda: bool(place.engine.moves))
        assert place.engine.moves == [("ab", "b can be used again")]
        assert place.engine.settings.options.plan_workers == WORKERS
        assert all(each.state == "ready" for each in place.care.facts())

    run(test)


def test_a_lost_device_is_taken_back_at_once_when_a_person_says_that_it_is_mended() -> None:
    async def test(place: Place) -> None:
        place.unreachable = {"b"}
        assert await place.died("b") == "ac"
        await place.care.undrain(place.client, "b")
        assert place.engine.moves == []
        place.unreachable = set()
        await place.care.undrain(place.client, "b")
        assert [devices for devices, _ in place.engine.moves] == ["ab"]

    run(test)


def test_the_plan_for_each_loss_is_made_and_compiled_before_anything_is_lost() -> None:
    async def test(place: Place) -> None:
        compiled: list[str] = []

        async def compile_ahead(settings: EngineSettings) -> None:
            compiled.append(used(settings))

        place.care._foresight = Foresight(place.planning, compile_ahead)
        await place.watch_until(lambda: len(compiled) == 2)
        assert compiled == ["bc", "ac"]
        asked = len(place.planning.asked)
        place.unreachable = {"b"}
        assert await place.died("b") == "ac"
        assert len(place.planning.asked) == asked

    run(test)


def test_a_model_moves_only_when_its_programs_are_compiled() -> None:
    async def test(place: Place) -> None:
        moves: list[int] = []

        async def compile_ahead(settings: EngineSettings) -> None:
            assert used(settings) == "bc"
            moves.append(len(place.engine.moves))

        place.care._foresight = Foresight(place.planning, compile_ahead)
        await place.care.drain(place.client, "a")
        assert moves == [0]
        assert [devices for devices, _ in place.engine.moves] == ["bc"]

    run(test)


def test_an_engine_that_cannot_start_with_a_device_goes_without_it() -> None:
    async def test(place: Place) -> None:
        assert await place.died("a") == "ab"
        assert await place.died("a", has_served=False) == "bc"

    run(test)


def test_a_device_that_fails_again_and_again_is_planned_around() -> None:
    async def test(place: Place) -> None:
        assert [await place.died("b") for _ in range(3)] == ["ab", "ab", "ac"]

    run(test)


def test_where_nothing_fits_the_plan_stays_and_is_tried_again() -> None:
    async def test(place: Place) -> None:
        place.unreachable = {"a", "b"}
        assert await place.died("b") == "ac"
        assert await place.died("a") == "ac"
        place.unreachable = {"a"}
        # Now b is back, and the next look finds it.
        await place.watch_until(lambda: bool(place.engine.moves))
        assert place.engine.moves[0][0] == "bc"

    run(test)


def test_a_drained_device_is_left_and_comes_back_when_a_person_says_so() -> None:
    async def test(place: Place) -> None:
        await place.care.drain(place.client, "a")
        assert place.engine.moves == [("bc", "a is drained")]
        with pytest.raises(RequestError, match="b cannot be drained: 3 MiB short on c"):
            await place.care.drain(place.client, "b")
        assert [each.state for each in place.care.facts()] == ["drained", "ready", "ready"]
        await place.care.undrain(place.client, "a")
        assert place.engine.moves[1:] == [("ab", "a is no longer drained")]
        await place.care.drain(place.client, "c")
        assert len(place.engine.moves) == 2
        with pytest.raises(RequestError, match="no device 'x'; there are a, b, c"):
            await place.care.drain(place.client, "x")

    run(test)


def test_a_plan_that_does_not_start_is_left_for_the_one_before() -> None:
    async def test(place: Place) -> None:
        place.engine.failure = EngineStopped("out of memory")
        with pytest.raises(EngineStopped):
            await place.care.drain(place.client, "a")
        assert used(place.engine.settings) == "bc"
        assert await place.died("", has_served=False) == "ab"

    run(test)


def test_a_move_that_could_not_begin_is_tried_again() -> None:
    async def test(place: Place) -> None:
        place.engine.failure, place.engine.is_launched = EngineStopped("not there"), False
        with pytest.raises(EngineStopped):
            await place.care.drain(place.client, "a")
        assert used(place.engine.settings) == "ab"
        place.engine.failure, place.engine.is_launched = None, True
        await place.watch_until(lambda: bool(place.engine.moves))
        assert place.engine.moves == [("bc", "a is drained")]

    run(test)


def test_what_else_the_settings_say_is_kept() -> None:
    async def test(place: Place) -> None:
        place.engine.settings = structs.replace(SETTINGS, model="other", offline=True)
        await place.care.drain(place.client, "a")
        assert place.engine.settings.model == "other"
        assert place.engine.settings.offline

    run(test)


def test_a_slow_device_is_planned_for_and_forgotten_when_it_is_let_in_again() -> None:
    async def test(place: Place) -> None:
        pace = PaceWatch(StragglerRules(windows=1, busy_seconds=0.01))
        place.care = DeviceCare(
            ("a", "b", "c"), plan_over("ab"), WORKERS, place.planning, place.reach, pace=pace
        )
        await place.watch_until(lambda: pace.knows(plan_over("ab")))
        place.engine.busy_seconds = {"a": 1.0, "b": 1.0}
        assert pace.look(place.engine.busy_seconds, 0.0) is None
        place.engine.busy_seconds = {"a": 2.0, "b": 4.0}
        await place.watch_until(lambda: bool(place.engine.moves))
        assert place.engine.moves == [("abc", "b takes 3.0 times longer")]
        assert dict(place.planning.asked[-1].slowdowns) == {"b": 3.0}
        assert [each.slowdown for each in place.care.facts()] == [1.0, 3.0, 1.0]
        await place.care.undrain(place.client, "b")
        assert place.engine.moves[1:] == [("ab", "b is no longer drained")]

    run(test)


def test_an_engine_is_started_again_whatever_goes_wrong_in_planning() -> None:
    async def test(place: Place) -> None:
        place.planning.failure = BanyanError("HiGHS answered kUnknown")
        place.unreachable.add("b")
        assert await place.died("b") == "ab"

    run(test)


def test_the_watch_goes_on_when_devices_cannot_be_looked_for_or_predicted() -> None:
    async def test(place: Place) -> None:
        tried: list[str] = []

        async def reach(name: str, seconds: float) -> str | None:
            tried.append(name)
            if len(tried) == 2:
                raise OSError("too many open files")
            return None if len(tried) > 2 else "it does not answer"

        place.care = DeviceCare(
            ("a", "b", "c"),
            plan_over("ab"),
            WORKERS,
            place.planning,
            reach,
            FleetPatience(first_look_seconds=0.01),
            pace=PaceWatch(),
        )
        assert await place.died("b") == "ac"
        place.planning.failure = BanyanError("nothing is predicted")
        await place.watch_until(lambda: len(tried) > 2 and used(place.engine.settings) == "ab")

    run(test)
