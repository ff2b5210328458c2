"""The handshake of two hosts that share a secret: Noise_NNpsk0_25519_AESGCM_SHA256.

Owns the pattern NNpsk0 of the Noise Protocol Framework, revision 34
(https://noiseprotocol.org/noise.html, sections 5, 7 and 9); the primitives are those of
`cryptography`. Two messages:

    -> psk, e
    <- e, ee

Whoever does not have the secret can neither write the first message nor the second, and each
connection has keys of its own, so a secret that leaks later opens nothing that was recorded before.
"""

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from banyan.foundation.errors import PeerRefused

MESSAGE_BYTES = 32 + 16
_NAME = b"Noise_NNpsk0_25519_AESGCM_SHA256"


class Handshake:
    """One side of one handshake; used once."""

    def __init__(
        self, key: bytes, prologue: bytes, *, is_initiator: bool, ephemeral: bytes | None = None
    ) -> None:
        """Begin.

        Args:
            key: 32 bytes made of the shared secret.
            prologue: what both sides must agree on beside the secret.
            is_initiator: this side writes first.
            ephemeral: the private key of 32 bytes; for test vectors only.
        """
        self._is_initiator = is_initiator
        private = (
            X25519PrivateKey.generate()
            if ephemeral is None
            else X25519PrivateKey.from_private_bytes(ephemeral)
        )
        self._private = private
        self._chaining = _NAME
        self._hash = hashlib.sha256(_NAME + prologue).digest()
        self._cipher = AESGCM(bytes(32))
        self._psk = key

    def write(self, payload: bytes = b"") -> bytes:
        """The message of this side: the initiator's first, the responder's second."""
        if self._is_initiator:
            self._mix_secret()
        public = self._private.public_key().public_bytes_raw()
        self._mix_ephemeral(public)
        if not self._is_initiator:
            self._mix_key(self._private.exchange(self._theirs))
        sealed = self._cipher.encrypt(bytes(12), payload, self._hash)
        self._mix_hash(sealed)
        return public + sealed

    def read(self, message: bytes) -> bytes:
        """Take the message of the other side; its payload.

        Raises:
            PeerRefused: the other side has another secret, or the message was changed.
        """
        if not self._is_initiator:
            self._mix_secret()
        self._mix_ephemeral(message[:32])
        try:
            self._theirs = X25519PublicKey.from_public_bytes(message[:32])
            if self._is_initiator:
                self._mix_key(self._private.exchange(self._theirs))
            payload = self._cipher.decrypt(bytes(12), message[32:], self._hash)
        except (InvalidTag, ValueError) as error:
            raise PeerRefused("it does not have the same shared secret") from error
        self._mix_hash(message[32:])
        return payload

    def split(self) -> tuple[bytes, bytes]:
        """The keys of the connection: what this side sends with, what it receives with."""
        first, second = _derive(self._chaining, b"", 2)
        return (first, second) if self._is_initiator else (second, first)

    def _mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def _mix_key(self, material: bytes) -> None:
        self._chaining, key = _derive(self._chaining, material, 2)
        self._cipher = AESGCM(key)

    def _mix_ephemeral(self, public: bytes) -> None:
        """With a pre-shared key, an ephemeral key is mixed into both (section 9.2)."""
        self._mix_hash(public)
        self._mix_key(public)

    def _mix_secret(self) -> None:
        self._chaining, mixed, key = _derive(self._chaining, self._psk, 3)
        self._mix_hash(mixed)
        self._cipher = AESGCM(key)


def _derive(chaining: bytes, material: bytes, count: int) -> list[bytes]:
    """HKDF with SHA-256, as section 4.3 of the framework has it."""
    temporary = hmac.digest(chaining, material, "sha256")
    outputs, last = [], b""
    for index in range(1, count + 1):
        last = hmac.digest(temporary, last + bytes([index]), "sha256")
        outputs.append(last)
    return outputs
