"""The queue of a model that hears nothing."""

from banyan.engine.requests.reception import Refusal
from banyan.engine.speech.transcript import Transcript, TranscriptionOptions
from banyan.foundation.errors import RequestError


class NoSpeech:
    """The queue of a model that hears nothing: it refuses every request."""

    def add_request(self, request_id: str, sound: bytes, options: TranscriptionOptions) -> None:
        """Refuse."""
        raise RequestError("this model does not write down speech", parameter="model")

    def cancel(self, request_id: str) -> None:
        """Do nothing: there are no requests."""

    def has_work(self) -> bool:
        """Return false."""
        return False

    def take_refusals(self) -> list[Refusal]:
        """Do nothing: all are refused at once."""
        return []

    def step(self) -> list[tuple[str, Transcript]]:
        """Do nothing."""
        return []
