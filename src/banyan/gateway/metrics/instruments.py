"""Counters, gauges and histograms that keep one number under all of its names."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from banyan.gateway.metrics.families import Family
from banyan.gateway.metrics.naming import Naming

Instrument = TypeVar("Instrument", Counter, Gauge, Histogram)


class Counted:
    """A counter."""

    def __init__(self, family: Family, naming: Naming, registry: CollectorRegistry) -> None:
        self._counters = [
            (Counter(name, family.meaning, (*fixed, *family.labels), registry=registry), fixed)
            for name, fixed in naming.of(family)
        ]

    def add(self, number: float = 1, *labels: str) -> None:
        """Add to the number; `labels` in the order of the family's."""
        for counter, fixed in self._counters:
            _labelled(counter, fixed, labels).inc(number)


class Shown:
    """A gauge that is read when it is asked for."""

    def __init__(
        self,
        family: Family,
        naming: Naming,
        registry: CollectorRegistry,
        *,
        read: Callable[[], float],
    ) -> None:
        for name, fixed in naming.of(family):
            gauge = Gauge(name, family.meaning, tuple(fixed), registry=registry)
            _labelled(gauge, fixed, ()).set_function(read)


class Timed:
    """A histogram without further labels."""

    def __init__(self, family: Family, naming: Naming, registry: CollectorRegistry) -> None:
        self._histograms = [
            _labelled(
                Histogram(
                    name, family.meaning, tuple(fixed), buckets=family.buckets, registry=registry
                ),
                fixed,
                (),
            )
            for name, fixed in naming.of(family)
        ]

    def observe(self, value: float) -> None:
        """Note one value."""
        for histogram in self._histograms:
            histogram.observe(value)


def _labelled(instrument: Instrument, fixed: dict[str, str], labels: Sequence[str]) -> Instrument:
    values = (*fixed.values(), *labels)
    return instrument.labels(*values) if values else instrument
