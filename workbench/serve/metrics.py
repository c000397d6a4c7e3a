"""What /metrics says to Prometheus: requests, errors, pictures, seconds, how many wait."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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
        for outcome in queue.counts:
            gauge = Gauge(
                f"workbench_orders_{outcome}", f"Orders that were {outcome}, since the start.", registry=self._registry
            )
            gauge.set_function(lambda outcome=outcome: queue.counts[outcome])

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def count(self, path: str, status: int, seconds: float) -> None:
        """An answer. `path`: of the route: what was really asked is anybody's text, and would fill the memory."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
