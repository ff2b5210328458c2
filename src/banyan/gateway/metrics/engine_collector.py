"""The engine's counters, read at the moment of a scrape."""

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from banyan.engine.events import EngineStatistics
from banyan.engine.process.status import ModelFacts
from banyan.gateway.backend import Backend
from banyan.gateway.metrics.families import (
    ADAPTERS_IN_USE,
    CACHE_CONFIG,
    ENGINE,
    STEP_TOKENS,
    Family,
)
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
    "images_asked": lambda counted: counted.images_asked,
    "images_encoded": lambda counted: counted.images_encoded,
    "image_rows": lambda counted: counted.image_rows,
    "image_seconds": lambda counted: counted.image_seconds,
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
        if counted.step_sizes:
            yield from self._step_tokens(counted)
        if status.model is not None:
            yield from self._facts(status.model, counted)

    def _step_tokens(self, counted: EngineStatistics) -> Iterator[Metric]:
        bounds = (*(str(float(bound)) for bound in STEP_TOKENS.buckets), "+Inf")
        buckets = list(zip(bounds, accumulate(counted.step_sizes), strict=True))
        for name, fixed in self._naming.of(STEP_TOKENS):
            metric = HistogramMetricFamily(name, STEP_TOKENS.meaning, labels=tuple(fixed))
            metric.add_metric(tuple(fixed.values()), buckets, counted.step_tokens)
            yield metric

    def _facts(self, model: ModelFacts, counted: EngineStatistics) -> Iterator[Metric]:
        """Yield what is told by labels alone."""
        if model.cache:
            told = {**model.cache, "num_gpu_blocks": str(counted.num_blocks)}
            yield from self._named(CACHE_CONFIG, 1, told)
        if model.max_adapters:
            told = {
                "max_lora": str(model.max_adapters),
                "running_lora_adapters": ",".join(counted.adapters_running),
                "waiting_lora_adapters": ",".join(counted.adapters_waiting),
            }
            yield from self._named(ADAPTERS_IN_USE, time.time(), told)

    def _named(
        self, family: Family, value: float, told: Mapping[str, str] | None = None
    ) -> Iterator[Metric]:
        own = told or {}
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        for name, fixed in self._naming.of(family):
            labels = fixed | {label: own[label] for label in family.labels}
            metric = kind(name, family.meaning, labels=tuple(labels))
            metric.add_metric(tuple(labels.values()), value)
            yield metric
