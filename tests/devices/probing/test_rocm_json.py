import pytest

from banyan.devices.probing.rocm_json import read_cards

CARD = '"VRAM Total Memory (B)": "1024"'


def test_cards_are_read_in_the_order_of_their_numbers_with_the_systems_driver() -> None:
    text = f'{{"card10": {{{CARD}}}, "card2": {{{CARD}}}, "system": {{"Driver version": "6.10"}}}}'
    assert [(card.index, card.driver) for card in read_cards(text)] == [(2, "6.10"), (10, "6.10")]


def test_sensors_that_are_not_there_make_room_for_others() -> None:
    text = (
        f'{{"card0": {{{CARD}, "Temperature (Sensor edge) (C)": "N/A", '
        '"Temperature (Sensor junction) (C)": "51.0", "Unique ID": "N/A"}}'
    )
    (card,) = read_cards(text)
    assert (card.temperature_celsius, card.uuid, card.model) == (51.0, "", "unknown model")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "the JSON is not an object of cards"),
        ('{"card0": []}', "card0 is not an object"),
        ('{"card0": {}}', "card0 has no total memory"),
        ('{"card0": {"VRAM Total Memory (B)": "viel"}}', "'viel' is not an amount of memory"),
    ],
)
def test_other_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_cards(text)
