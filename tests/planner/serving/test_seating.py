from dataclasses import replace

from banyan.planner.inventory import Inventory, Link, PlannedDevice
from banyan.planner.serving.groups import Group
from banyan.planner.serving.kinds import Kind, zones_of
from banyan.planner.serving.seating import seat
from tests.planner.shapes import FAST, SLOW, two_hosts

FASTS = [PlannedDevice(f"{host}{number}", FAST, host) for host in "xy" for number in range(3)]
INVENTORY = Inventory(
    devices=(*FASTS, PlannedDevice("cpu", SLOW, "y")),
    within_host=Link(1e10),
    between_hosts=Link(1e9),
)


def test_groups_stay_on_a_host_and_singles_fill_what_is_left() -> None:
    pair, single = Kind(Group(FAST, 2), 0, 9), Kind(Group(FAST), 0, 9)
    seats = seat([[pair, single], [pair, single]], INVENTORY)
    assert seats is not None
    for pipeline in seats:
        assert len({name[0] for each in pipeline for name in each.devices}) == 1
    names = [name for pipeline in seats for each in pipeline for name in each.devices]
    assert len(names) == len(set(names)) == 6


def test_a_group_with_helpers_sits_beside_them() -> None:
    kind = Kind(Group(FAST, 1, None, SLOW, 1, "attention", Link(1e10)), 0, 9)
    seats = seat([[kind]], INVENTORY)
    assert seats is not None
    assert (seats[0][0].host, seats[0][0].helpers) == ("y", ("cpu",))


def test_a_group_that_no_host_has_room_for_is_not_seated() -> None:
    assert seat([[Kind(Group(FAST, 4), 0, 9)]], INVENTORY) is None


def test_hosts_that_do_not_reach_each_other_are_zones_of_their_own() -> None:
    assert set(zones_of(two_hosts()).values()) == {0}
    assert len(set(zones_of(replace(two_hosts(), between_hosts=None)).values())) == 2
