"""Where the devices of a plan are: in this process, in a worker of this host, or at another host.

Pure. A plan names devices; unless somebody says otherwise a name is that of a device as
`banyan devices` lists it, with "#" and a number where several workers share one ("cpu#1").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from banyan.foundation.errors import InputError

INTERPRETER = "interpreter"
"""The name of the device that needs no compiler: NumPy, very slow."""


@dataclass(frozen=True, slots=True)
class PlaceAddress:
    """Where one device of a plan is.

    Attributes:
        kind: in this process, in a worker of its own on this host, or in one that listens.
        device: for the first two: its name on this machine, or "interpreter".
        host: of a worker that listens.
        port: of a worker that listens.
    """

    kind: Literal["inline", "process", "tcp"]
    device: str = ""
    host: str = ""
    port: int = 0


def addresses_of(
    places: Sequence[str], told: Sequence[tuple[str, str]]
) -> Mapping[str, PlaceAddress]:
    """Where each place of a plan is; `told` has (place, address) for some of them.

    Raises:
        InputError: an address is none, or is for a place that the plan does not name.
    """
    known = dict(told)
    if unknown := sorted(known.keys() - set(places)):
        raise InputError(
            f"plan_workers names {unknown[0]!r}, which the plan does not; it names "
            f"{', '.join(places)}"
        )
    ordinary = "inline" if len(places) == 1 else "process"
    return {
        place: parse_address(known.get(place, f"{ordinary}:{place.partition('#')[0]}"))
        for place in places
    }


def parse_address(text: str) -> PlaceAddress:
    """Read "inline:cpu", "process:opencl:0" or "tcp://10.0.0.7:4711".

    Raises:
        InputError: it is none of these.
    """
    kind, _, rest = text.partition(":")
    if kind == "inline" and rest:
        return PlaceAddress("inline", device=rest)
    if kind == "process" and rest:
        return PlaceAddress("process", device=rest)
    host, _, port = rest.removeprefix("//").rpartition(":")
    if kind == "tcp" and host and port.isdigit() and 0 < int(port) < 65536:
        return PlaceAddress("tcp", host=host.strip("[]"), port=int(port))
    raise InputError(
        f"{text!r} says no place; give inline:DEVICE, process:DEVICE or tcp://HOST:PORT"
    )
