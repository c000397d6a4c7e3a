"""What Prometheus is told."""

from workbench.recipe import Bench
from workbench.serve.metrics import Metrics
from workbench.serve.queueing import PictureQueue
from workbench.store import Store


def test_what_only_grows_is_a_counter() -> None:
    queue = PictureQueue(Bench(Store(None)))
    queue.close()
    metrics = Metrics(queue)
    queue.counts["refused"] += 2
    text = metrics.text().decode()
    assert "# TYPE workbench_orders_total counter" in text and "# TYPE workbench_waiting gauge" in text
    assert (
        'workbench_orders_total{outcome="refused"} 2.0' in text and 'workbench_orders_total{outcome="made"} 0.0' in text
    )
