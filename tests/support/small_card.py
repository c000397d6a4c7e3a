"""A worker whose device holds two guided pictures of the refiner at a time, for tests/sweeps/test_cluster.py."""

from typing import Any

from workbench.sweeps.cluster import worker


class Worker(worker.Worker):
    def run(self, *arguments: Any) -> None:
        import torch
        from diffusers import UNet2DConditionModel

        real = UNet2DConditionModel.forward

        def forward(self: Any, sample: Any, *rest: Any, **named: Any) -> Any:
            if len(sample) > 4 and sample.shape[-1] > 8:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(self, sample, *rest, **named)

        UNet2DConditionModel.forward = forward  # type: ignore[method-assign]
        try:
            super().run(*arguments)
        finally:
            UNet2DConditionModel.forward = real
