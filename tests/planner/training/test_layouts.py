from banyan.planner.inventory import PlannedDevice
from banyan.planner.training.layouts import layouts_of
from tests.planner.training.instances import device_type

FAST, SLOW = device_type("fast", 2.0), device_type("slow", 1.0)


def names(devices: list[PlannedDevice]) -> set[str]:
    """Layouts as text: devices joined by dashes, pipelines by spaces."""
    return {
        " ".join(sorted("-".join(one.name for one in row) for row in layout))
        for layout in layouts_of(devices)
    }


def test_two_devices_stand_alone_side_by_side_or_behind_each_other() -> None:
    a, b = PlannedDevice("a", FAST, "x"), PlannedDevice("b", SLOW, "x")
    assert names([a, b]) == {"a", "b", "a b", "a-b", "b-a"}


def test_devices_of_one_kind_on_one_host_are_the_same() -> None:
    a, b = PlannedDevice("a", FAST, "x"), PlannedDevice("b", FAST, "x")
    assert len(names([a, b])) == 3


def test_many_devices_form_equal_pipelines_and_pipelines_of_one_kind() -> None:
    devices = [PlannedDevice(f"f{number}", FAST, "x") for number in range(4)]
    devices += [PlannedDevice(f"s{number}", SLOW, "y") for number in range(2)]
    found = names(devices)
    assert "f0-f1-s0 f2-f3-s1" in found
    assert "s0-f0-f1 s1-f2-f3" in found
    assert "f0-f1 f2-f3 s0-s1" in found
    assert "f0-f1-f2-f3" in found
    assert "f0 f1 f2 f3 s0 s1" in found
    for text in found:
        used = text.replace("-", " ").split()
        assert len(used) == len(set(used))
