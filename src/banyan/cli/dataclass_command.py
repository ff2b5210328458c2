"""A command whose options are the fields of a dataclass."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, get_type_hints

Arguments = TypeVar("Arguments")


def takes(
    kind: type[Arguments],
) -> Callable[[Callable[[Arguments], None]], Callable[..., None]]:
    """Let a command have one option for each field of `kind`, a dataclass, and receive it whole.

    Each field's type is an `Annotated` with the option in it, as a parameter's would be. So an
    option is named once, however many the command has.
    """

    def decorate(run: Callable[[Arguments], None]) -> Callable[..., None]:
        @wraps(run)
        def command(**given: Any) -> None:
            run(kind(**given))

        # What typer reads to learn the options.
        command.__dict__["__signature__"] = inspect.signature(kind)
        command.__annotations__ = get_type_hints(kind, include_extras=True)
        return command

    return decorate
