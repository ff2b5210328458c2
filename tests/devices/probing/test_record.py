from banyan.devices.chip import DeviceFacts, DeviceUsage
from banyan.devices.probing.record import ChipRecord


def test_facts_and_usage_share_an_identity() -> None:
    record = ChipRecord(index=2, model="X", memory_bytes=10, memory_used_bytes=3, utilisation=0.5)
    assert record.facts("acme") == DeviceFacts("acme-2", "acme:2", "X", 10, 1, ())
    assert record.usage("acme") == DeviceUsage("acme-2", 3, 0.5)


def test_an_identity_is_the_tools_or_the_place_on_the_bus_or_the_number() -> None:
    assert ChipRecord(index=2, model="X", uuid="U", bus="B").identity("acme") == "U"
    assert ChipRecord(index=2, model="X", bus="B").identity("acme") == "acme-B"
    assert ChipRecord(index=2, model="X").identity("acme") == "acme-2"
