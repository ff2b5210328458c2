"""The exception tree.

    BanyanError
      + InputError               the caller's fault: a bad value, file or request
      |   + ModelError           a model directory that cannot be used
      |   |   + UnsupportedModelError   an architecture, rope or quantisation we do not know
      |   + RequestError         a request that cannot be served as asked
      + EnvironmentProblem       the machine's fault: something missing or full
      |   + CompilerMissing      no C++ compiler
      |   + DeviceMissing        the device asked for is not here
      |   + StorageFull          a disk that is full
      + CompilationFailed        generated text that did not build
      + GraphError               a graph that breaks the written rules of the compiler
      + EngineStopped            the engine process is not there to answer
      + Overloaded               more requests than can be served; ask again later

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


class EnvironmentProblem(BanyanError, RuntimeError):
    """Something this machine lacks."""


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


class Overloaded(BanyanError, RuntimeError):
    """There is no room for one more request now; `retry_after_seconds` says when to ask again."""

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class EngineStopped(BanyanError, RuntimeError):
    """The engine process ended before it answered."""
