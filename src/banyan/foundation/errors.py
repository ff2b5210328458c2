"""The exception tree.

    BanyanError
      + InputError               the caller's fault: a bad value, file or request
      |   + ModelError           a model directory that cannot be used
      |   |   + UnsupportedModelError   an architecture, rope or quantisation we do not know
      |   + RequestError         a request that cannot be served as asked
      |       + UnknownAdapter   it names an adapter that is not loaded
      |       + ImageError       an image that cannot be read or is too large
      + EnvironmentProblem       the machine's fault: something missing or full
      |   + CompilerMissing      no C++ compiler
      |   + DeviceMissing        the device asked for is not here
      |   + StorageFull          a disk that is full
      |   + StageFailed          a part of a plan is gone, or computed no numbers
      + CompilationFailed        generated text that did not build
      + GraphError               a graph that breaks the written rules of the compiler
      + EngineStopped            the engine process is not there to answer
      + Overloaded               more was asked than can be served in time; says when to come back
      + DeadlineMissed           an answer could not begin within the time the caller gave it
      + ChannelError             a connection between two workers that cannot be used any more
      |   + ChannelClosed        one of the two closed it
      |   + PeerLost             the other process ended, or its host cannot be reached
      |   + PeerSilent           the other process is stopped, its host is frozen or the network cut
      |   + PeerRefused          another secret, version or plan on the other side
      |   + DamagedMessage       bytes that are no message
      + MessageLate              nothing came, or could be sent, in the time given; ask again

Every message is one sentence for its reader: what, the value, the limit, what to do.
"""


class BanyanError(Exception):
    """Root of everything Banyan raises on purpose."""


class InputError(BanyanError, ValueError):
    """The caller gave a value that cannot be used."""


class ModelError(InputError):
    """A model directory is missing, damaged or incomplete."""


class UnsupportedModelError(ModelError):
    """A model asks for an architecture or a feature that is not known here."""


class RequestError(InputError):
    """A request cannot be served as asked; `parameter` names the field at fault."""

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class UnknownAdapter(RequestError):
    """A request names an adapter that is not loaded, or no longer."""


class ImageError(RequestError):
    """An image that comes with a request cannot be read, or is too large."""


class EnvironmentProblem(BanyanError, RuntimeError):
    """Something this machine lacks."""


class StageFailed(EnvironmentProblem):
    """A worker of a plan is gone, does not answer, or computed NaN.

    Attributes:
        place: the device of the plan at fault; empty where nobody knows.
        is_silent: nothing was heard of it any more, rather than that it ended.
    """

    def __init__(self, message: str, *, place: str = "", is_silent: bool = False) -> None:
        super().__init__(message)
        self.place = place
        self.is_silent = is_silent


class CompilerMissing(EnvironmentProblem):
    """No C++ compiler was found."""


class DeviceMissing(EnvironmentProblem):
    """The device asked for is not on this machine."""


class StorageFull(EnvironmentProblem):
    """A file could not be written because the disk is full."""


class CompilationFailed(BanyanError, RuntimeError):
    """The C++ compiler refused generated text."""


class GraphError(BanyanError, ValueError):
    """A graph breaks the written rules of the compiler."""


class EngineStopped(BanyanError, RuntimeError):
    """The engine process ended before it answered."""


class Overloaded(BanyanError, RuntimeError):
    """More was asked than can be served in time.

    Attributes:
        retry_after_seconds: when to come back.
        is_callers_share: this caller holds more of the queue than others; else all are too many.
    """

    def __init__(
        self, message: str, *, retry_after_seconds: float = 1.0, is_callers_share: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.is_callers_share = is_callers_share


class DeadlineMissed(BanyanError, RuntimeError):
    """An answer could not begin within the time the caller gave it."""


class ChannelError(BanyanError, RuntimeError):
    """A connection between two workers cannot be used any more."""


class ChannelClosed(ChannelError):
    """One of the two workers closed their connection on purpose."""


class PeerLost(ChannelError):
    """The worker on the other side ended, or its host cannot be reached."""


class PeerSilent(ChannelError):
    """The worker on the other side does not even beat: stopped, frozen, or the network is cut."""


class PeerRefused(ChannelError):
    """The two workers do not fit together: another secret, version, protocol or plan."""


class DamagedMessage(ChannelError):
    """Bytes came that are no message, or a message was cut short."""


class MessageLate(BanyanError, RuntimeError):
    """No message came, or one could not be sent, in the time given; the channel is still good."""
