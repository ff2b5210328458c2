import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.foundation.errors import InputError
from banyan.planner.inventory import DeviceType, Inventory, Link
from banyan.planner.inventory_file import read_inventory, with_prices
from tests.planner.shapes import FAST

PROFILES = {"here": replace(FAST, source="measured", kind="cpu")}

MIXED = """
[types.h200]
card = "h200"
memory = "130GB"

[types.s60]
vendor = "Enflame"
memory = "48GB"
bandwidth = "672GB/s"
operations = { bfloat16 = "190T", int8 = "380T" }
launch = "8us"
watts = 300

[[devices]]
type = "h200"
host = "left"
count = 2

[[devices]]
type = "s60"
host = "right"
hosts = 2
count = 2

[[devices]]
type = "s60"
name = "spare"
host = "left"

[links]
within_host = { bandwidth = "50GB/s", latency = "5us" }
between_hosts = { bandwidth = "200Gbit/s", latency = "20us" }

[[links.pairs]]
between = ["h200-0", "h200-1"]
bandwidth = "450GB/s"
"""
ONE = '[types.a]\ncard = "H200"\n[[devices]]\ntype = "a"\n'


def test_an_inventory_is_kinds_devices_and_links() -> None:
    inventory = read_inventory(MIXED, PROFILES)
    assert [(device.name, device.host) for device in inventory.devices] == [
        ("h200-0", "left"),
        ("h200-1", "left"),
        ("right-0/s60-0", "right-0"),
        ("right-0/s60-1", "right-0"),
        ("right-1/s60-0", "right-1"),
        ("right-1/s60-1", "right-1"),
        ("spare", "left"),
    ]
    h200, s60 = inventory.devices[0].type, inventory.devices[2].type
    assert (h200.name, h200.vendor, h200.memory_bytes) == ("h200", "NVIDIA", 130 * 10**9)
    assert h200.read_bytes_per_second == 4.8e12
    assert s60 == DeviceType(
        name="s60",
        vendor="Enflame",
        memory_bytes=48 * 10**9,
        read_bytes_per_second=6.72e11,
        operations_per_second={"bfloat16": 1.9e14, "int8": 3.8e14},
        launch_seconds=8e-6,
        watts_busy=300.0,
    )
    assert inventory.within_host == Link(5e10, 5e-6)
    assert inventory.between_hosts == Link(2.5e10, 2e-5)
    assert inventory.links == {("h200-0", "h200-1"): Link(4.5e11)}


def test_a_profile_is_measured_until_a_speed_is_replaced() -> None:
    text = '[types.a]\nprofile = "here"\nmemory = "1GB"\n[[devices]]\ntype = "a"\n'
    assert read_inventory(text, PROFILES).devices[0].type.source == "measured"
    text = text.replace("memory", 'bandwidth = "1GB/s"\nmemory')
    assert read_inventory(text, PROFILES).devices[0].type.source == "described"


def test_one_device_needs_no_links_and_hosts_may_be_apart() -> None:
    alone = read_inventory(ONE, PROFILES)
    assert alone.within_host == Link(math.inf)
    assert alone.between_hosts is None
    apart = read_inventory(ONE + "hosts = 2\n[links]\nbetween_hosts = false", PROFILES)
    assert apart.link(*apart.devices) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"has no device; add a table \[\[devices\]\]"),
        (
            ONE.replace("H200", "H2000"),
            r"\[types.a\]: card: card 'H2000' is not among .* nearest are .*h200",
        ),
        (
            ONE.replace("card", "profile"),
            r"profile='H200' is not known; there are here; .* --measure makes 'here'",
        ),
        (ONE + 'host = ""', r"\[\[devices\]\] 1: host='' cannot be used"),
        (ONE.replace('type = "a"', 'type = "b"'), r"type='b' is described nowhere; add \[types.b"),
        (ONE.replace('"H200"\n', '"H200"\nmemory = 0\n'), r"\[types.a\]: memory=0 is nothing"),
        (ONE.replace('"H200"\n', '"H200"\nprofile = "here"\n'), "names a card and a profile"),
        (ONE.replace('card = "H200"', 'vendor = "X"'), r"\[types.a\] lacks 'memory'; add a line"),
        (ONE.replace('card = "H200"', ""), r"\[types.a\] lacks 'vendor'"),
        (ONE.replace('"H200"\n', '"H200"\noperations = 5\n'), "operations=5 cannot be used"),
        (ONE + "count = 0", "count=0 cannot be used; write a number from 1"),
        (ONE + "count = 3", r"does not say what lies between devices of one host; add within_host"),
        (ONE + "hosts = 2", r"what lies between 'here-0' and other hosts; add between_hosts"),
        (ONE + "hosts = 1000\ncount = 1000", "has 1000 x 1000 devices; at most 200000"),
        (ONE + '[[devices]]\ntype = "a"', r"\[\[devices\]\] 2 has a device 'a', as .* 1 has"),
        (ONE + '[types.b]\ncard = "H100"', "describes 'b' and has no such device"),
        (ONE + "colour = 1", "unknown key 'colour'"),
        (ONE + "[links]\nwithin_host = { bandwidth = 0 }", "bandwidth=0 is nothing"),
        (
            ONE + '[links]\nwithin_host = { latency = "1s" }',
            r"\[links.within_host\] lacks 'bandwidth'",
        ),
        (ONE + '[[links.pairs]]\nbetween = ["a", "x"]', "'x' is neither a device nor a host"),
        (ONE + '[[links.pairs]]\nbetween = ["a", "a"]', "must name two"),
        (ONE + '[[links.pairs]]\nbetween = ["a", "here"]', "mixes a device with a host"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as refused:
        read_inventory(text, PROFILES)
    assert "\n" not in str(refused.value)


def test_a_link_of_hosts_or_of_their_devices_is_link_enough() -> None:
    two = ONE + 'host = "left"\n[[devices]]\ntype = "a"\nname = "b"\nhost = "right"\n'
    for ends in ('["left", "right"]', '["a", "b"]'):
        text = two + f'[[links.pairs]]\nbetween = {ends}\nbandwidth = "1GB/s"'
        inventory = read_inventory(text, PROFILES)
        assert inventory.link(*inventory.devices) == Link(1e9)


def test_prices_are_of_the_kinds_there_are() -> None:
    text = 'currency = "CNY"\nper_kilowatt_hour = 0.6\n[per_hour]\nh200 = 18\ns60 = 4.5\na100 = 9'
    inventory = with_prices(read_inventory(MIXED, PROFILES), text)
    assert inventory.price_per_hour == {"h200": 18.0, "s60": 4.5}
    assert (inventory.currency, inventory.price_per_kilowatt_hour) == ("CNY", 0.6)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[per_hour]\nh200 = 2", "no price for 's60', which the inventory has; add s60 = 1.5"),
        ("[per_hour]\nh200 = -2\ns60 = 1", r"h200=-2 cannot be used"),
        ('[per_hour]\nh200 = "cheap"\ns60 = 1', "amount of money"),
        ("per_hour = 3", r"write a table \[per_hour\]"),
        ("price = 3", "unknown key 'price'"),
    ],
)
def test_prices_that_are_none_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        with_prices(read_inventory(MIXED, PROFILES), text)


LINES = MIXED.splitlines()


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, len(LINES) - 1), st.sampled_from(["drop", "cut", "swap"]))),
    st.text(max_size=5),
)
def test_a_damaged_file_is_an_inventory_or_one_sentence(
    damage: list[tuple[int, str]], word: str
) -> None:
    lines: list[str] = list(LINES)
    for place, how in damage:
        at = place % len(lines)
        cut = lines[at][: len(lines[at]) // 2]
        lines[at] = {"drop": "", "cut": cut, "swap": lines[at].replace('"', word, 1)}[how]
    try:
        inventory = read_inventory("\n".join(lines), PROFILES)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        _check(inventory)


@given(st.recursive(st.integers() | st.text(max_size=3) | st.booleans(), st.lists, max_leaves=4))
def test_any_value_anywhere_is_an_inventory_or_one_sentence(value: Any) -> None:
    text = MIXED.replace('"190T"', _toml(value)).replace("count = 2", f"count = {_toml(value)}", 1)
    try:
        _check(read_inventory(text, PROFILES))
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


def _check(inventory: Inventory) -> None:
    assert len({device.name for device in inventory.devices}) == len(inventory.devices)
    for device in inventory.devices:
        assert device.type.memory_bytes > 0
        assert device.type.read_bytes_per_second > 0


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(letter if letter.isalnum() else "_" for letter in value) + '"'
    return repr(value)
