"""Pictures while they are denoised: what a listener sees, and that it changes nothing."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from workbench.errors import Cancelled
from workbench.files import pixels_sha256
from workbench.models import SAMPLERS
from workbench.presets import load_preset
from workbench.recipe import Bench, Diffusion, Row, latent_preview
from workbench.recipe.text_encoding import Text
from workbench.settings import Settings
from workbench.store import Artefact, Store

Told = list[tuple[str, int, int, Image.Image]]


@pytest.fixture(scope="module")
def embedded() -> Bench:
    return Bench(Store(None))


@pytest.fixture
def face() -> Settings:
    return load_preset("embedded").settings.replace(steps=6, hires=False, restorer="none", seed=5)


def listening(bench: Bench, settings: Settings) -> tuple[Told, Image.Image]:
    told: Told = []
    result = bench.generate(settings, keep=False, preview=lambda *each: told.append(each))
    return told, result.image


def difference(a: Image.Image, b: Image.Image) -> float:
    """Root mean square, of 255, at the size of the smaller picture `a`."""
    shrunk = np.asarray(b.resize(a.size, Image.Resampling.BOX)).astype(float)
    return float(((np.asarray(a) - shrunk) ** 2).mean() ** 0.5)


def test_a_listener_changes_no_pixel(tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent_preview, "EVERY", 0)
    told, heard = listening(Bench(Store(None)), tiny)
    assert pixels_sha256(heard) == pixels_sha256(Bench(Store(None)).generate(tiny).image)
    assert [(stage, step, steps) for stage, step, steps, _ in told] == [
        *(("base", n, 4) for n in range(1, 5)), *(("refine", n, 4) for n in range(1, 5))
    ]  # fmt: skip
    assert {(stage, picture.size) for stage, _, _, picture in told} == {("base", (8, 8)), ("refine", (16, 16))}


def test_what_is_told_last_is_near_the_picture(
    embedded: Bench, face: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No matrix comes nearer than 26.6 of 255 to this VAE's pictures; theirs differ from grey by 69."""
    monkeypatch.setattr(latent_preview, "EVERY", 0)
    told, image = listening(embedded, face)
    assert difference(told[-1][3], image) < 35
    assert difference(told[-1][3], image) < difference(told[0][3], image)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_is_understood(
    embedded: Bench, face: Settings, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prediction at the last step is what its sampler has made: the same matrix tells both."""
    monkeypatch.setattr(latent_preview, "EVERY", 0)
    made: list[Image.Image] = []
    finish = Diffusion.finish

    def watched(diffusion: Diffusion, row: Row) -> Artefact:
        made.append(latent_preview.coloured(row.latents, next(iter(diffusion._colours.values()))))
        return finish(diffusion, row)

    monkeypatch.setattr(Diffusion, "finish", watched)
    told, _ = listening(embedded, face.replace(sampler=sampler, width=128, height=128))
    assert difference(told[-1][3], made[0]) < 8


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_finished_latents_are_read_from_what_each_kind_of_unet_predicts(kind: str) -> None:
    import torch
    from diffusers import DDIMScheduler

    scheduler: Any = DDIMScheduler.from_config({"prediction_type": kind})
    scheduler.set_timesteps(3)
    finished, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    at = scheduler.timesteps[:1]
    share = float(scheduler.alphas_cumprod[at])
    velocity = share**0.5 * noise - (1 - share) ** 0.5 * finished
    answer = {"epsilon": noise, "v_prediction": velocity, "sample": finished}[kind]
    none = torch.zeros(1)
    row = Row(
        "base", "base", 1.0, scheduler.add_noise(finished, noise, at), scheduler.timesteps, scheduler,
        torch.Generator(), {}, Text(none, none, none, none), time_ids=none, negative_time_ids=none,
    )  # fmt: skip
    assert torch.allclose(latent_preview.predicted(row, (None, answer)), finished, atol=1e-4)


def test_previews_come_at_most_as_often_as_they_are_read(
    embedded: Bench, face: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_preview, "EVERY", 3600)
    told, _ = listening(embedded, face.replace(seed=6, width=128, height=128))
    assert [step for _, step, _, _ in told] == [1]  # the first at once


def test_nothing_is_computed_without_a_listener(tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a preview was made that nobody asked for")

    for name in ("LatentPreviews", "fit_colours"):
        monkeypatch.setattr("workbench.recipe.denoising." + name, never)
    Bench(Store(None)).generate(tiny)


def test_a_listener_can_cancel_within_a_step(embedded: Bench, face: Settings) -> None:
    def leave(*_: object) -> None:
        raise Cancelled("whoever asked has left.")

    before = embedded.counters()["unet_evaluations"]["base"]
    with pytest.raises(Cancelled):
        embedded.generate(face.replace(seed=7), preview=leave)
    assert embedded.counters()["unet_evaluations"]["base"] == before + 1


def test_a_vae_that_gives_no_numbers_has_grey_previews(embedded: Bench, face: Settings) -> None:
    import torch

    class Broken:
        config = type("Config", (), {"force_upcast": False, "scaling_factor": 0.13})()
        device = torch.device("cpu")

        def decode(self, latents: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
            return (torch.full((1, 3, latents.shape[-2] * 8, latents.shape[-1] * 8), float("nan")),)

    colours = latent_preview.fit_colours(Broken(), torch.float32)
    assert (np.asarray(latent_preview.coloured(torch.randn(1, 4, 4, 4), colours)) == 128).all()
