from dataclasses import replace

import pytest

from banyan.foundation.errors import InputError
from banyan.planner.inventory import Link
from tests.planner.shapes import two_hosts


def test_a_link_of_devices_wins_over_that_of_hosts_and_holds_both_ways() -> None:
    inventory = replace(two_hosts(), links={("a", "c"): Link(5.0), ("right", "left"): Link(7.0)})
    a, b, c = inventory.devices
    assert inventory.link(a, b) == Link(1e10, 1e-6)
    assert inventory.link(c, a) == Link(5.0)
    assert inventory.link(b, c) == Link(7.0)


def test_hosts_without_a_link_do_not_reach_each_other() -> None:
    inventory = replace(two_hosts(), between_hosts=None)
    assert inventory.link(inventory.device("a"), inventory.device("c")) is None


def test_a_device_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(InputError, match="'d' is not in the inventory of 3: a, b, c"):
        two_hosts().device("d")


def test_a_transfer_begins_and_then_takes_its_bytes() -> None:
    assert Link(100.0, 2.0).transfer_seconds(50) == 2.5
