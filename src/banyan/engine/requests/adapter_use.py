"""Which adapters the answers of an engine use: those being computed, and those that wait. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.scheduling.scheduler import SequenceId


@dataclass(frozen=True, slots=True)
class AdapterUse:
    """Names of adapters in order, each once; one may be in both.

    Attributes:
        running: of answers that hold blocks.
        waiting: of answers in the queue.
    """

    running: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


def adapter_use(
    requests: Mapping[str, Sequence[Answer]], running: Collection[SequenceId]
) -> AdapterUse:
    """Look through the answers of all requests; `running` are those being computed.

    It is asked for after every step, so only where there can be adapters.
    """
    using: set[str] = set()
    waiting: set[str] = set()
    for answers in requests.values():
        for answer in answers:
            if answer.adapter is not None:
                found = using if answer.sequence_id in running else waiting
                found.add(answer.adapter.name)
    return AdapterUse(tuple(sorted(using)), tuple(sorted(waiting)))
