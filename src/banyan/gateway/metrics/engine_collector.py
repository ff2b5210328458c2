"""The engine's counters, read at the moment of a scrape."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol, runtime_checkable

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from banyan.engine.events import EngineStatistics
from banyan.engine.process.status import EngineStatus, ModelFacts
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


@runtime_checkable
class Replicated(Protocol):
    """A backend of several replicas, each of which has numbers of its own."""

    def replicas(self) -> Sequence[tuple[EngineStatus, EngineStatistics | None]]:
        """Each replica's status and newest counters; None before its first start."""
        ...


@dataclass(frozen=True, slots=True)
class _Sample:
    """What is told of one engine: its replica, and further labels."""

    replica: int | None
    value: float
    told: Mapping[str, str] = field(default_factory=dict)


class EngineCollector(Collector):
    """Reads the backend's status and counters under all of their names."""

    def __init__(self, backend: Backend, naming: Naming) -> None:
        self._backend = backend
        self._naming = naming

    def collect(self) -> Iterator[Metric]:
        """Yield what is known; before the first start that is only whether it answers."""
        engines = self._engines()
        ready = [_Sample(number, status.state == "ready") for number, status, _ in engines]
        yield from self._named(ENGINE["ready"], ready)
        restarts = [_Sample(number, status.num_restarts) for number, status, _ in engines]
        yield from self._named(ENGINE["restarts"], restarts)
        counted = [(number, counts) for number, _, counts in engines if counts is not None]
        for key, read in READINGS.items():
            samples = [_Sample(number, read(counts)) for number, counts in counted]
            yield from self._named(ENGINE[key], samples)
        yield from self._step_tokens([each for each in counted if each[1].step_sizes])
        models = [
            (number, status.model, counts)
            for number, status, counts in engines
            if status.model is not None and counts is not None
        ]
        yield from self._named(CACHE_CONFIG, [_cache(*each) for each in models if each[1].cache])
        in_use = [_adapters(*each) for each in models if each[1].max_adapters]
        yield from self._named(ADAPTERS_IN_USE, in_use)

    def _engines(self) -> list[tuple[int | None, EngineStatus, EngineStatistics | None]]:
        """Each replica with its number; an engine that is alone has none."""
        if isinstance(self._backend, Replicated):
            return [(number, *each) for number, each in enumerate(self._backend.replicas())]
        return [(None, self._backend.status(), self._backend.statistics())]

    def _step_tokens(
        self, engines: Sequence[tuple[int | None, EngineStatistics]]
    ) -> Iterator[Metric]:
        bounds = (*(str(float(bound)) for bound in STEP_TOKENS.buckets), "+Inf")
        found: dict[str, HistogramMetricFamily] = {}
        for number, counted in engines:
            buckets = list(zip(bounds, accumulate(counted.step_sizes), strict=True))
            for name, fixed in self._naming.of(STEP_TOKENS, number):
                new = HistogramMetricFamily(name, STEP_TOKENS.meaning, labels=tuple(fixed))
                metric = found.setdefault(name, new)
                metric.add_metric(tuple(fixed.values()), buckets, counted.step_tokens)
        yield from found.values()

    def _named(self, family: Family, samples: Sequence[_Sample]) -> Iterator[Metric]:
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        found: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for sample in samples:
            for name, fixed in self._naming.of(family, sample.replica):
                labels = fixed | {label: sample.told[label] for label in family.labels}
                metric = found.setdefault(name, kind(name, family.meaning, labels=tuple(labels)))
                metric.add_metric(tuple(labels.values()), sample.value)
        yield from found.values()


def _cache(number: int | None, model: ModelFacts, counted: EngineStatistics) -> _Sample:
    return _Sample(number, 1, {**model.cache, "num_gpu_blocks": str(counted.num_blocks)})


def _adapters(number: int | None, model: ModelFacts, counted: EngineStatistics) -> _Sample:
    told = {
        "max_lora": str(model.max_adapters),
        "running_lora_adapters": ",".join(counted.adapters_running),
        "waiting_lora_adapters": ",".join(counted.adapters_waiting),
    }
    return _Sample(number, time.time(), told)
