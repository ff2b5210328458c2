"""The nodes of Helix's clusters as makers describe them, a layer of its 70B model, and requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from banyan.planner.simulation.trace import Lengths
from benchmarks.helix import Instance

LAYER_BYTES = 2 * (2 * 8192**2 + 2 * 8192 * 1024 + 3 * 8192 * 28672)
CACHE_BYTES = 2 * 2 * 8 * 128
LINK_SECONDS, LINK_BYTES_PER_SECOND = 1e-3, 1.25e9
MEMORY_SHARE, COMPUTE_SHARE = 0.92, 0.5
LENGTHS = Lengths(
    prompt=500,
    answer=160,
    prompt_spread=0.9,
    answer_spread=0.8,
    longest_prompt=2048,
    longest_answer=1024,
)


@dataclass(frozen=True, slots=True)
class Card:
    """memory bytes, bytes read in a second, operations in a second; of all cards of a node."""

    memory: float
    bandwidth: float
    operations: float

    def times(self, count: int) -> "Card":
        """So many of them in one node."""
        return Card(self.memory * count, self.bandwidth * count, self.operations * count)


A100, L4 = Card(40e9, 1.555e12, 312e12), Card(24e9, 3.0e11, 121e12)
T4, V100 = Card(16e9, 3.2e11, 65e12), Card(16e9, 9.0e11, 125e12)
# In the order of the types of the instances: by their rates and how many layers they hold.
CARDS: Mapping[int, Sequence[Card]] = {
    24: (L4, T4, A100),
    42: (T4, L4.times(2), L4, V100, T4.times(4), A100, T4.times(2)),
}


def rate_of(instance: Instance, kind: int, layers: int) -> float:
    """Tokens per second of a node; beyond the layers Helix measured, as many layers a second."""
    rates = instance.rates[kind]
    most = min(layers, len(rates))
    return rates[most - 1] * most / layers
