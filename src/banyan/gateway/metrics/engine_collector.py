"""The engine's counters, read at the moment of a scrape."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from banyan.engine.events import EngineStatistics
from banyan.gateway.backend import Backend
from banyan.gateway.metrics.families import ENGINE, Family
from banyan.gateway.metrics.naming import Naming

READINGS: Mapping[str, Callable[[EngineStatistics], float]] = {
    "waiting": lambda counted: counted.num_waiting,
    "running": lambda counted: counted.num_running,
    "blocks_free": lambda counted: counted.num_free_blocks,
    "blocks": lambda counted: counted.num_blocks,
    "cache_usage": lambda counted: 1 - counted.num_free_blocks / max(1, counted.num_blocks),
    "prompt_tokens": lambda counted: counted.tokens_prefilled,
    "generated_tokens": lambda counted: counted.tokens_generated,
    "preemptions": lambda counted: counted.preemptions,
    "steps": lambda counted: counted.num_steps,
    "cache_queries": lambda counted: counted.prefix_cache_queries,
    "cache_hits": lambda counted: counted.prefix_cache_hits,
    "drafted": lambda counted: counted.tokens_drafted,
    "accepted": lambda counted: counted.tokens_accepted,
}


class EngineCollector(Collector):
    """Reads the backend's status and counters under all of their names."""

    def __init__(self, backend: Backend, naming: Naming) -> None:
        self._backend = backend
        self._naming = naming

    def collect(self) -> Iterator[Metric]:
        """Yield what is known; before the first start that is only whether it answers."""
        status = self._backend.status()
        yield from self._named(ENGINE["ready"], status.state == "ready")
        yield from self._named(ENGINE["restarts"], status.num_restarts)
        counted = self._backend.statistics()
        if counted is None:
            return
        for key, read in READINGS.items():
            yield from self._named(ENGINE[key], read(counted))

    def _named(self, family: Family, value: float) -> Iterator[Metric]:
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        for name, fixed in self._naming.of(family):
            metric = kind(name, family.meaning, labels=tuple(fixed))
            metric.add_metric(tuple(fixed.values()), value)
            yield metric
