"""What is planned and compiled before anybody waits for it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from banyan.engine.options import EngineOptions
from banyan.engine.process.foresight import Foresight
from banyan.engine.process.messages import EngineSettings
from banyan.foundation.errors import InputError
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.serving.replanning import FleetCondition


@dataclass
class Counted:
    """A planning that counts, and has no plan without a."""

    asked: list[frozenset[str]] = field(default_factory=list)

    def plan(self, condition: FleetCondition) -> Plan:
        self.asked.append(condition.missing)
        if "a" in condition.missing:
            raise InputError("3 MiB short on b")
        stages = (Stage(0, 1, ("a",)),)
        return Plan(model="m", model_fingerprint="", num_layers=1, replicas=(Replica(stages),))

    def expected(self, plan: Plan) -> Mapping[str, float]:
        return {}

    def gain(self, condition: FleetCondition, present: Plan, other: Plan) -> float:
        return 1.0


def without(*names: str, **slow: float) -> FleetCondition:
    return FleetCondition(missing=frozenset(names), slowdowns=slow)


def test_a_condition_is_planned_for_once_and_a_failure_each_time() -> None:
    async def test() -> None:
        planning = Counted()
        foresight = Foresight(planning, None)
        first = await foresight.plan(without("b"))
        assert await foresight.plan(without("b")) is first
        await foresight.plan(without("b", a=2.0))
        for _ in range(2):
            with pytest.raises(InputError):
                await foresight.plan(without("a"))
        assert [sorted(missing) for missing in planning.asked] == [["b"], ["b"], ["a"], ["a"]]

    asyncio.run(test())


def test_a_plan_is_compiled_once_for_a_model_and_again_where_that_failed() -> None:
    async def test() -> None:
        compiled: list[str] = []

        async def compile_ahead(settings: EngineSettings) -> None:
            compiled.append(f"{settings.model} {settings.options.plan}")
            if len(compiled) == 1:
                raise OSError("no more processes")

        foresight = Foresight(Counted(), compile_ahead)
        for model, plan in (("m", "p"), ("m", "p"), ("m", "p"), ("n", "p"), ("n", "q")):
            await foresight.compile(
                EngineSettings(model=model, options=EngineOptions(plan=plan), cache_directory="/")
            )
        assert compiled == ["m p", "m p", "n p", "n q"]

    asyncio.run(test())
