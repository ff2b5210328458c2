"""Where the devices of a plan are."""

import pytest

from banyan.engine.stages.addresses import (
    Neighbour,
    PlaceAddress,
    addresses_of,
    neighbours_of,
    parse_address,
)
from banyan.foundation.errors import InputError


def test_a_device_is_a_worker_of_its_name_unless_somebody_says_otherwise() -> None:
    found = addresses_of(["cpu", "cpu#1", "far"], [("far", "tcp://[::1]:4711")])
    assert found == {
        "cpu": PlaceAddress("process", device="cpu"),
        "cpu#1": PlaceAddress("process", device="cpu"),
        "far": PlaceAddress("tcp", host="::1", port=4711),
    }


def test_a_plan_of_one_device_needs_no_worker() -> None:
    assert addresses_of(["opencl:0"], []) == {"opencl:0": PlaceAddress("inline", "opencl:0")}


@pytest.mark.parametrize("text", ["", "cpu", "inline:", "tcp://host", "tcp://host:0", "tcp://:1"])
def test_what_says_no_place_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="says no place; give inline:DEVICE"):
        parse_address(text)


def test_a_device_that_the_plan_does_not_name_is_refused() -> None:
    with pytest.raises(InputError, match="names 'b', which the plan does not; it names a"):
        addresses_of(["a"], [("b", "inline:cpu")])


@pytest.mark.parametrize("name", ["", "#1", "cpu#", "cpu#x", "cpu#-1", "cpu#1#2"])
def test_a_name_that_is_no_device_and_of_which_nothing_is_told_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"the plan names device {name!r}; give the name of"):
        addresses_of([name], [])
    assert addresses_of([name], [(name, "inline:cpu")]) == {name: PlaceAddress("inline", "cpu")}


def test_two_devices_are_not_one_worker_that_listens() -> None:
    told = [("a", "tcp://far:1"), ("b", "tcp://far:2"), ("c", "tcp://far:1")]
    with pytest.raises(InputError, match="a and c are both at tcp://far:1, and a worker computes"):
        addresses_of(["a", "b", "c"], told)


def test_each_pair_of_workers_has_one_that_connects_and_one_that_waits() -> None:
    addresses = {
        "here": parse_address("inline:cpu"),
        "one": parse_address("process:cpu"),
        "two": parse_address("process:cpu"),
        "far": parse_address("tcp://10.0.0.7:4711"),
        "next": parse_address("tcp://127.0.0.1:4712"),
        "name": parse_address("tcp://host:4713"),
    }
    pairs = [
        ("far", "here"),
        ("far", "name"),
        ("far", "next"),
        ("far", "one"),
        ("one", "two"),
    ]
    assert neighbours_of("one", pairs, addresses) == (
        Neighbour("far", "dial", "10.0.0.7", 4711),
        Neighbour("two", "inherit"),
    )
    assert neighbours_of("far", pairs, addresses) == (
        Neighbour("name", "dial", "host", 4713),
        # Only its own host knows a loopback address, so whoever has it connects.
        Neighbour("next", "await"),
        Neighbour("one", "await"),
    )
    assert neighbours_of("next", pairs, addresses) == (Neighbour("far", "dial", "10.0.0.7", 4711),)
    assert neighbours_of("two", pairs, addresses) == (Neighbour("one", "inherit"),)
    assert neighbours_of("here", pairs, addresses) == ()
