"""Where the devices of a plan are: in this process, in a worker of this host, or at another host.

Pure. A plan names devices; unless somebody says otherwise a name is that of a device as
`banyan devices` lists it, with "#" and a number where several workers share one ("cpu#1").
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
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


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A worker that another one exchanges values with, as that one sees it.

    Attributes:
        place: the device of the plan.
        meeting: over a socket both were started with, by connecting to it, or by waiting for it.
        host: where it listens, to connect.
        port: of that.
    """

    place: str
    meeting: Literal["inherit", "dial", "await"]
    host: str = ""
    port: int = 0


def neighbours_of(
    place: str, pairs: Iterable[tuple[str, str]], addresses: Mapping[str, PlaceAddress]
) -> tuple[Neighbour, ...]:
    """The workers that one place exchanges values with; places in the engine's process are none.

    Args:
        place: a worker.
        pairs: places that exchange values, each pair once.
        addresses: of all places.

    Two workers of this host were started with a socket between them. Of one of this host and one
    that listens, the first connects; of two that listen, the one whose address only its own host
    knows, else the first of the pair.
    """
    found = []
    for first, second in sorted(pairs):
        other = second if place == first else first
        if place not in (first, second) or "inline" in (
            addresses[first].kind,
            addresses[second].kind,
        ):
            continue
        there = addresses[other]
        if addresses[place].kind == there.kind == "process":
            found.append(Neighbour(other, "inherit"))
        elif place == _dialling(first, second, addresses):
            found.append(Neighbour(other, "dial", there.host, there.port))
        else:
            found.append(Neighbour(other, "await"))
    return tuple(found)


def _dialling(first: str, second: str, addresses: Mapping[str, PlaceAddress]) -> str:
    """Who connects."""
    for place, other in ((first, second), (second, first)):
        if addresses[place].kind == "process":
            return place
        if _is_loopback(addresses[place].host) and not _is_loopback(addresses[other].host):
            return place
    return first


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def addresses_of(
    places: Sequence[str], told: Sequence[tuple[str, str]]
) -> Mapping[str, PlaceAddress]:
    """Where each place of a plan is; `told` has (place, address) for some of them.

    Raises:
        InputError: an address is none, is for a place that the plan does not name, or is given
            to two of them; or a name that nothing is told of has no number behind its "#".
    """
    known = dict(told)
    if unknown := sorted(known.keys() - set(places)):
        raise InputError(
            f"plan_workers names {unknown[0]!r}, which the plan does not; it names "
            f"{', '.join(places)}"
        )
    ordinary = "inline" if len(places) == 1 else "process"
    found = {
        place: parse_address(
            known[place] if place in known else f"{ordinary}:{_device_named(place)}"
        )
        for place in places
    }
    _refuse_shared_ports(found)
    return found


def _device_named(place: str) -> str:
    device, mark, number = place.partition("#")
    if not device or (mark and not number.isdecimal()):
        raise InputError(
            f"the plan names device {place!r}; give the name of a device, with # and a number "
            'where several workers share one ("cpu#1"), or say where it is (plan_workers)'
        )
    return device


def _refuse_shared_ports(addresses: Mapping[str, PlaceAddress]) -> None:
    first: dict[PlaceAddress, str] = {}
    for place, address in addresses.items():
        if address.kind == "tcp" and first.setdefault(address, place) != place:
            raise InputError(
                f"{first[address]} and {place} are both at tcp://{address.host}:{address.port}, "
                "and a worker computes for one of them; start another worker"
            )


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
