"""The check every device makes before it launches: does the call fit the program?"""

from collections.abc import Sequence

from banyan.devices.device import Buffer, Program
from banyan.foundation.errors import InputError


def check_launch(program: Program, buffers: Sequence[Buffer], symbols: Sequence[int]) -> None:
    """Compare the call with what the program takes.

    Raises:
        InputError: the number of buffers or symbols differs.
    """
    if len(buffers) != program.num_buffers:
        raise InputError(
            f"program {program.name!r} takes {program.num_buffers} buffers, "
            f"{len(buffers)} were given"
        )
    if len(symbols) != program.num_symbols:
        raise InputError(
            f"program {program.name!r} takes {program.num_symbols} symbols, "
            f"{len(symbols)} were given"
        )
