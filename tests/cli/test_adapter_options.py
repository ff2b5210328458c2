"""Adapters on the command line."""

import pytest

from banyan.cli.adapter_options import lora_modules_of
from banyan.foundation.errors import InputError


def test_each_adapter_has_a_name_and_a_path() -> None:
    assert lora_modules_of(None) == ()
    assert lora_modules_of(["a=/x", "b=y=z"]) == (("a", "/x"), ("b", "y=z"))


@pytest.mark.parametrize("text", ["a", "=x", "a=", ""])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not NAME=PATH"):
        lora_modules_of([text])


def test_a_name_that_comes_twice_is_refused() -> None:
    with pytest.raises(InputError, match="names 'a' twice"):
        lora_modules_of(["a=x", "a=y"])
