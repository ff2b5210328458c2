"""The handshake is that of the framework, and fails for whoever does not have the secret."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from banyan.distributed.noise import MESSAGE_BYTES, Handshake
from banyan.foundation.errors import PeerRefused

KEY = bytes(range(32))
FIRST = bytes.fromhex("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a")
SECOND = bytes.fromhex("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b")


def test_the_bytes_are_those_of_another_implementation() -> None:
    """Written down from noiseprotocol 0.3.1 (PyPI) with the same keys."""
    initiator = Handshake(KEY, b"banyan", is_initiator=True, ephemeral=FIRST)
    responder = Handshake(KEY, b"banyan", is_initiator=False, ephemeral=SECOND)
    message = initiator.write(b"first")
    assert message.hex() == (
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944"
        "7a7721a210213049e126536d9c2cfa844995e3b141"
    )
    assert responder.read(message) == b"first"
    answer = responder.write(b"second")
    assert answer.hex() == (
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843"
        "fae09a03e7c65daa2d2ae6b63254073bc2ceacc3fc44"
    )
    assert initiator.read(answer) == b"second"
    sending, receiving = initiator.split()
    assert responder.split() == (receiving, sending)
    first = AESGCM(sending).encrypt(bytes(12), b"hello", None)
    second = AESGCM(receiving).encrypt(bytes(12), b"world", None)
    assert first.hex() == "48978604690dbb7cad376492ad80c877d329608b7b"
    assert second.hex() == "d808caa4cfbabfa9664ad32ca1393dfa0ca6f38651"


def test_every_connection_has_keys_of_its_own() -> None:
    keys = set()
    for _ in range(3):
        initiator = Handshake(KEY, b"", is_initiator=True)
        responder = Handshake(KEY, b"", is_initiator=False)
        responder.read(initiator.write())
        initiator.read(responder.write())
        keys |= set(initiator.split())
    assert len(keys) == 6


def test_another_secret_is_refused_by_the_one_who_listens() -> None:
    message = Handshake(bytes(32), b"", is_initiator=True).write()
    with pytest.raises(PeerRefused, match="same shared secret"):
        Handshake(KEY, b"", is_initiator=False).read(message)


def test_an_answer_without_the_secret_is_refused_by_the_one_who_connects() -> None:
    initiator = Handshake(KEY, b"", is_initiator=True)
    initiator.write()
    # What an impostor can do: a key of its own, and a tag that it has to guess.
    impostor = Handshake(bytes(32), b"", is_initiator=True).write()
    with pytest.raises(PeerRefused, match="same shared secret"):
        initiator.read(impostor)


def test_another_prologue_is_refused() -> None:
    message = Handshake(KEY, b"protocol 1", is_initiator=True).write()
    with pytest.raises(PeerRefused):
        Handshake(KEY, b"protocol 2", is_initiator=False).read(message)


@given(st.integers(0, MESSAGE_BYTES - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused(place: int, change: int) -> None:
    message = bytearray(Handshake(KEY, b"", is_initiator=True, ephemeral=FIRST).write())
    message[place] ^= change
    with pytest.raises(PeerRefused):
        Handshake(KEY, b"", is_initiator=False, ephemeral=SECOND).read(bytes(message))
