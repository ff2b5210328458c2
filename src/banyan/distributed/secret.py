"""The secret that all workers of one deployment share.

Owns how it is made, read and turned into a key. It must be random: whoever records one handshake
may try all words of a dictionary against it at leisure.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from banyan.foundation.errors import InputError

_LEAST_CHARACTERS = 22
_KEY_LABEL = b"banyan worker link, pre-shared key, 1\n"


@dataclass(frozen=True, slots=True)
class SharedSecret:
    """A secret; its text never shows up in messages or logs.

    Attributes:
        text: at least 22 characters, as 128 random bits take in URL-safe base 64.
    """

    text: str = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.text) < _LEAST_CHARACTERS:
            raise InputError(
                f"The shared secret has {len(self.text)} characters; it needs at least"
                f" {_LEAST_CHARACTERS} random ones, since a short one can be guessed from one"
                f" recorded connection."
            )

    @property
    def key(self) -> bytes:
        """The 32 bytes that the handshake mixes in."""
        return hashlib.sha256(_KEY_LABEL + self.text.encode()).digest()


def make_secret() -> SharedSecret:
    """A new one of 256 random bits."""
    return SharedSecret(secrets.token_urlsafe(32))


def read_secret(path: Path) -> SharedSecret:
    """The secret in a file, without white space around it.

    Raises:
        InputError: the file cannot be read, others may read it, or the secret is too short.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The shared secret cannot be read from {path}: {error}.") from error
    if mode & 0o077:
        raise InputError(
            f"Others than the owner may read the shared secret in {path} (mode"
            f" {mode & 0o777:03o}); chmod 600 it."
        )
    return SharedSecret(text)
