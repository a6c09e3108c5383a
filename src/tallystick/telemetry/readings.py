"""Readings: figures that are set, not counted, and that must not lie when nobody sets them any more.

A plain gauge keeps its last value for as long as its process lives. Where several processes share the work that is
wrong: the one that lost a lease would show the lag of that day for ever. So a reading is shown only while it is
renewed, and gauges are collected from here when the metrics are asked for.

Their number is bounded. The first ``limit`` places are shown by their names; what comes on top of them is folded into
one series whose labels are all ``other``: the worst of them, or their sum, as the metric says. So an alert on it still
fires, and a thousand new ledgers cannot bury the monitoring.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

OTHER = "other"
"""The label of all that is beyond a limit."""

MAX_LABEL_CHARACTERS = 128
"""A longer label is ``other``."""

MAX_READINGS = 10_000
"""Places of one metric that are remembered, those that are folded among them; beyond it one stands for all."""

OVERFLOW: tuple[str, ...] = ()
"""The place that stands for all beyond MAX_READINGS; it does not get better before it is stale."""

Fold = Callable[[Iterable[float]], float]


def bounded(value: str) -> str:
    """The value if it can be a label, or ``other``."""
    return value if len(value) <= MAX_LABEL_CHARACTERS else OTHER


class Readings:
    """One metric that is set at places (values of its labels). Safe to use from any number of threads.

    ``keep_seconds`` is how long a reading is shown after it was last set; None: until it is forgotten. ``rising``
    makes it a counter: a smaller value than the one before is left out of account.
    """

    def __init__(
        self,
        name: str,
        meaning: str,
        labels: tuple[str, ...],
        *,
        limit: int,
        fold: Fold,
        keep_seconds: float | None = None,
        rising: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._meaning = meaning
        self._labels = labels
        self._limit = limit
        self._fold = fold
        self._worse = max if fold is sum else fold  # what is set again and again cannot be added up
        self._keep_seconds = keep_seconds
        self._rising = rising
        self._monotonic = monotonic
        self._rest = (OTHER,) * len(labels)
        self._lock = threading.Lock()
        self._values: dict[tuple[str, ...], tuple[float, float]] = {}

    def set(self, place: tuple[str, ...], value: float) -> None:
        """Keep the value at a place."""
        place = tuple(map(bounded, place))
        now = self._monotonic()
        with self._lock:
            if place not in self._values and len(self._values) >= MAX_READINGS:
                place = OVERFLOW
                if place in self._values and not self._is_stale(self._values[place], now):
                    value = self._worse((value, self._values[place][0]))
            elif self._rising and place in self._values:
                value = max(value, self._values[place][0])
            self._values[place] = (value, now)

    def forget(self, *beginning: str) -> None:
        """Show no place any more whose first labels are these."""
        with self._lock:
            for place in [place for place in self._values if place[: len(beginning)] == beginning]:
                del self._values[place]

    def describe(self) -> Iterator[Metric]:
        """For the registry: the name, without values."""
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        """For the registry: what is shown now."""
        family = self._family()
        for place, value in self.shown().items():
            family.add_metric(place, value)
        yield family

    def shown(self) -> dict[tuple[str, ...], float]:
        """The places and their values as they are shown now."""
        now = self._monotonic()
        with self._lock:
            for place in [place for place, reading in self._values.items() if self._is_stale(reading, now)]:
                del self._values[place]
            values = {place: value for place, (value, _) in self._values.items()}
        named = [place for place in values if OTHER not in place and place != OVERFLOW][: self._limit]
        shown = {place: values.pop(place) for place in named}
        if values:
            shown[self._rest] = self._fold(values.values())
        return shown

    def _is_stale(self, reading: tuple[float, float], now: float) -> bool:
        return self._keep_seconds is not None and now - reading[1] > self._keep_seconds

    def _family(self) -> CounterMetricFamily | GaugeMetricFamily:
        kind = CounterMetricFamily if self._rising else GaugeMetricFamily
        return kind(self._name, self._meaning, labels=self._labels)


class Distribution:
    """A histogram without labels. prometheus-client's own costs three times as much, on every posting."""

    def __init__(self, name: str, meaning: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._meaning = meaning
        self._bounds = tuple(bounds)
        self._lock = threading.Lock()
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value in the first bucket whose bound it does not exceed."""
        place = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[place] += 1
            self._sum += value

    def describe(self) -> Iterator[Metric]:
        """For the registry: the name, without values."""
        yield HistogramMetricFamily(self._name, self._meaning)

    def collect(self) -> Iterator[Metric]:
        """For the registry: how many values lie below each bound."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(counts), strict=True))
        yield HistogramMetricFamily(self._name, self._meaning, buckets=buckets, sum_value=total)
