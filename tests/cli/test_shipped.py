from pathlib import Path

import pytest

from banyan.cli import shipped
from banyan.cli.shipped import find_model
from banyan.foundation.errors import InputError


def test_a_named_model_is_used_as_it_is(tmp_path: Path) -> None:
    assert find_model("org/name", start=tmp_path) == "org/name"


@pytest.mark.parametrize("name", [None, "seedling"])
def test_the_shipped_model_is_found_here_or_above(tmp_path: Path, name: str | None) -> None:
    model = tmp_path / "models" / "seedling"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_model(name, start=below) == str(model)


def test_without_a_shipped_model_the_reader_is_told_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "a" / "b" / "c" / "d.py"))
    with pytest.raises(InputError, match="name a model directory or a hub id"):
        find_model(None, start=tmp_path)
