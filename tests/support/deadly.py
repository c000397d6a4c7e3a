"""A worker whose process dies at one setting, for tests/test_cluster.py: Ray imports it by name in other processes."""

import os
from typing import Any

from workbench.recipe import denoising
from workbench.sweeps.cluster import worker


class Worker(worker.Worker):
    def run(self, *arguments: Any) -> None:
        real = denoising.Diffusion.evaluate

        def evaluate(self: Any, rows: Any, batch: int = 1) -> Any:
            if any(row.cfg == 6.0 and row.steps == 3 and row.done == 1 for row in rows):
                os._exit(1)
            return real(self, rows, batch)

        denoising.Diffusion.evaluate = evaluate
        super().run(*arguments)
