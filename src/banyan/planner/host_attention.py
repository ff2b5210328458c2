"""When attention on the host's processors beats attention on the accelerator: a closed form. Pure.

Decoding is bound by memory: a step reads all weights once and the keys and values of all sequences.
With the cache on the host the accelerator has its whole memory for weights and more sequences are
computed together, at the host's bandwidth. Both memories are full, and both sides work at the same
time; arithmetic and transfers are left out, so these are bounds from above.
"""

from dataclasses import dataclass
from typing import Literal

from banyan.foundation.errors import InputError

Way = Literal["device only", "host, whole batch", "host, two halves"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAttention:
    """An accelerator with weights, and a host beside it.

    Attributes:
        memory_bytes: of the accelerator that weights and cache may take.
        weight_bytes: of the model, less than `memory_bytes`.
        device_bytes_per_second: what the accelerator reads.
        host_bytes_per_second: what the host reads.
        compression: bytes of a cached token on the accelerator for each byte on the host: 2 where
            the host keeps 8 bits of 16.

    Raises:
        InputError: one of these is not above 0, or the weights leave no room.
    """

    memory_bytes: float
    weight_bytes: float
    device_bytes_per_second: float
    host_bytes_per_second: float
    compression: float = 1.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; give a number above 0")
        if self.weight_bytes >= self.memory_bytes:
            raise InputError(
                f"weights of {self.weight_bytes:.0f} bytes leave no room in a memory of "
                f"{self.memory_bytes:.0f}; without any there is nothing to compare with"
            )

    @property
    def host_share(self) -> float:
        """Sequences that the host attends to in a second, the accelerator alone doing 1."""
        ratio = self.host_bytes_per_second / self.device_bytes_per_second
        return (
            self.compression * ratio * self.memory_bytes / (self.memory_bytes - self.weight_bytes)
        )

    @property
    def gain_whole(self) -> float:
        """Throughput with the batch in one piece, the accelerator alone doing 1."""
        return 1.0 + self.host_share

    @property
    def gain_halves(self) -> float:
        """Throughput with two halves in turns, which read the weights twice."""
        return self.memory_bytes / (self.memory_bytes + self.weight_bytes) + self.host_share

    @property
    def halves_win(self) -> bool:
        """Whether two halves in turns beat the accelerator alone."""
        return self.host_share > self.weight_bytes / (self.memory_bytes + self.weight_bytes)

    def best(self, *, can_overlap: bool) -> tuple[Way, float]:
        """The best way and its gain.

        Args:
            can_overlap: accelerator and host can attend to parts of one batch at the same time;
                without that the batch in one piece leaves one of them idle.
        """
        ways: list[tuple[Way, float]] = [
            ("device only", 1.0),
            ("host, two halves", self.gain_halves),
        ]
        if can_overlap:
            ways.append(("host, whole batch", self.gain_whole))
        return max(ways, key=lambda way: way[1])

    def break_even_host_bandwidth(self) -> float:
        """Bytes a second that the host must read for two halves to win."""
        needed = self.weight_bytes / (self.memory_bytes + self.weight_bytes)
        return self.host_bytes_per_second * needed / self.host_share
