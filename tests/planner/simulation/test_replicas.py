"""Replicas that are alike share their times; others do not."""

from dataclasses import replace

import pytest

from banyan.foundation.errors import InputError
from banyan.planner.costs import RooflineCost
from banyan.planner.inventory import Link
from banyan.planner.plan import Replica, Stage
from banyan.planner.simulation.replicas import Chains, EnginePolicy
from tests.planner.simulation.fleets import MODEL, inventory_of, single


def _pair(one: str, other: str) -> Replica:
    return Replica((Stage(0, 2, (one,)), Stage(2, 4, (other,))))


def test_equal_replicas_share_their_times() -> None:
    chains = Chains(MODEL, inventory_of(8), RooflineCost(), EnginePolicy())
    assert chains.answering(single("d0"), {}) is chains.answering(single("d5"), {})
    assert chains.answering(_pair("d0", "d1"), {}) is chains.answering(_pair("d2", "d3"), {})
    assert chains.answering(_pair("d0", "d1"), {}) is not chains.answering(_pair("d1", "d2"), {})
    assert chains.answering(single("d0"), {}) is not chains.answering(single("d0"), {"d0": 2.0})


def test_a_link_of_its_own_makes_a_replica_its_own_kind() -> None:
    inventory = replace(inventory_of(8), links={("d0", "d1"): Link(1e3)})
    chains = Chains(MODEL, inventory, RooflineCost(), EnginePolicy())
    assert chains.answering(_pair("d0", "d1"), {}) is not chains.answering(_pair("d2", "d3"), {})
    assert chains.answering(_pair("d4", "d5"), {}) is chains.answering(_pair("d2", "d3"), {})


def test_the_plan_says_how_many_sequences_run() -> None:
    chains = Chains(MODEL, inventory_of(2), RooflineCost(), EnginePolicy(max_running=64))
    asked = replace(single("d0"), max_sequences=7)
    assert chains.answering(asked, {}).limits.max_running == 7
    assert chains.answering(single("d0"), {}).limits.max_running == 64


def test_more_sequences_than_tokens_in_a_step_are_refused() -> None:
    with pytest.raises(InputError, match="do not fit into steps of 8 tokens"):
        EnginePolicy(token_budget=8, max_running=9)


def test_a_device_without_room_for_a_cache_is_refused() -> None:
    small = replace(inventory_of(1).devices[0].type, memory_bytes=9_260_000)
    chains = Chains(MODEL, inventory_of(1, small), RooflineCost(), EnginePolicy())
    with pytest.raises(InputError, match="no room for a KV cache"):
        chains.answering(single("d0"), {})
