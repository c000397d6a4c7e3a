"""What /metrics says to Prometheus: requests, errors, pictures, seconds, how many wait."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from .queueing import PictureQueue


class Metrics:
    """The figures of one server; those of another one in the same process are its own."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, queue: PictureQueue) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "workbench_requests", "Answers, by address and status.", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "workbench_request_seconds", "From a request to its answer's head.", ("path",), registry=self._registry
        )
        waiting = Gauge("workbench_waiting", "Orders that wait for their turn.", registry=self._registry)
        waiting.set_function(lambda: queue.waiting)
        self._registry.register(OrderCounts(queue))

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def count(self, path: str, status: int, seconds: float) -> None:
        """An answer. `path`: of the route: what was really asked is anybody's text, and would fill the memory."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)


class OrderCounts(Collector):
    """Orders by what came of them, read from the queue when Prometheus asks: they only grow, so they are counters."""

    def __init__(self, queue: PictureQueue) -> None:
        self._queue = queue

    def collect(self) -> Iterator[CounterMetricFamily]:
        found = CounterMetricFamily("workbench_orders", "Orders, by what came of them.", labels=["outcome"])
        for outcome, count in self._queue.counts.items():
            found.add_metric([outcome], count)
        yield found
