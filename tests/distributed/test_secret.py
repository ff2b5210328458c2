"""A secret is random, belongs to its owner and is never shown."""

from pathlib import Path

import pytest

from banyan.distributed.secret import SharedSecret, make_secret, read_secret
from banyan.foundation.errors import InputError


def test_a_new_secret_is_another_one_and_never_shown() -> None:
    first, second = make_secret(), make_secret()
    assert first != second
    assert first.key != second.key
    assert len(first.key) == 32
    assert first.text not in repr(first)


def test_a_short_secret_is_refused_without_showing_it() -> None:
    with pytest.raises(InputError, match="has 7 characters; it needs at least 22") as raised:
        SharedSecret("hunter2")
    assert "hunter2" not in str(raised.value)


def test_a_secret_is_read_from_a_file_of_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    secret = make_secret()
    path.write_text(secret.text + "\n")
    path.chmod(0o644)
    with pytest.raises(InputError, match=r"Others than the owner .* \(mode 644\); chmod 600"):
        read_secret(path)
    path.chmod(0o600)
    assert read_secret(path) == secret
    with pytest.raises(InputError, match="cannot be read from"):
        read_secret(tmp_path / "none")
