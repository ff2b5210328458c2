import dataclasses

import pytest

from banyan.devices.cards import find_card, known_cards, match_card
from banyan.foundation.errors import InputError


def test_a_card_is_found_by_its_name_with_its_numbers_in_plain_units() -> None:
    card = find_card("h200")
    assert (card.vendor, card.chip) == ("NVIDIA", "cuda")
    assert card.memory_bytes == 143771 * 1024 * 1024
    assert card.read_bytes_per_second == 4.8e12
    assert card.peaks() == {
        "float16": 989e12,
        "bfloat16": 989e12,
        "float8": 1979e12,
        "int8": 1979e12,
    }
    assert card.watts == 700


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("H200", "h200"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("nvidia a100-SXM4-40GB", "a100-40g"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("AMD Instinct MI300X OAM", "mi300x"),
        ("Ascend 910B", "ascend-910b"),
        ("910B2", "ascend-910b"),
        ("MTT S4000", "s4000"),
        ("MXC500", "c500"),
        ("K100_AI", "k100-ai"),
        ("PPU-ZW810E", "ppu-zw810e"),
        ("Intel Data Center GPU Max 1550", "max-1550"),
    ],
)
def test_a_card_is_found_by_what_people_and_tools_call_it(written: str, name: str) -> None:
    assert find_card(written).name == name


def test_a_card_that_is_not_described_names_the_nearest() -> None:
    assert match_card("h2000") is None
    with pytest.raises(InputError, match=r"card 'h2000' is not among .* nearest are .*h200"):
        find_card("h2000")


def test_what_nobody_published_is_none_or_empty_and_never_zero() -> None:
    assert find_card("mr-v100").read_bytes_per_second is None
    assert find_card("s60").peaks() == {}
    for card in known_cards():
        numbers = [card.memory_bytes, *card.peaks().values()]
        numbers += [x for x in (card.read_bytes_per_second, card.watts) if x is not None]
        assert min(numbers) > 0, card.name


def test_no_two_cards_share_a_name() -> None:
    for card in known_cards():
        for name in (card.name, *card.aliases):
            assert match_card(name) is card, name


def test_every_card_says_who_said_so_and_cannot_be_changed() -> None:
    assert all(card.source for card in known_cards())
    with pytest.raises(dataclasses.FrozenInstanceError):
        find_card("h200").watts = 1.0  # type: ignore[misc]
