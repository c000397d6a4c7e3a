import pytest

from workbench.settings import Settings


@pytest.fixture
def small() -> Settings:
    """The embedded model at 64 px, refined by its refiner at 96 px."""
    return Settings(
        model="embedded", prompt="portrait photo of Grace Hopper", width=64, height=64, steps=3, hires_scale=1.5,
        refine_steps=4, strength=0.6, restorer="none", seed=5,
    )  # fmt: skip
