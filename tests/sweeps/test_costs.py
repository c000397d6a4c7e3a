import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.checkpoints import header_only

from workbench.models.checkpoints import CONFIGS
from workbench.settings import Settings
from workbench.sweeps.costs import BYTES_PER_PIXEL, KEPT, Costs, work_units

SDXL = Settings(width=1024, height=1024, hires_scale=1.0)


@pytest.fixture
def costs(tmp_path: Path) -> Costs:
    return Costs(tmp_path / "costs.json", "a card float16")


# TFLOP counted by torch's flop counter on the real architectures: a guided refiner step, VAE encoder and decoder
COUNTED = {
    768: (7.64, 2.61, 5.75),
    1024: (14.57, 4.88, 10.47),
    1536: (39.27, 12.52, 25.10),
    2048: (86.03, 26.11, 48.48),
}


@pytest.mark.parametrize("side", COUNTED)
def test_the_work_of_the_hires_pass_follows_the_counts(side: int) -> None:
    at = SDXL.replace(width=side, height=side)
    step, encode, decode = COUNTED[side]
    assert work_units("refine", at) == pytest.approx(at.refine_evaluations * step + encode + decode, rel=0.01)


def test_what_work_grows_with() -> None:
    enlarged = SDXL.replace(upscaler="realesrgan-x4plus")

    def grows(stage: str, **changes: object) -> float:
        at = enlarged if stage == "upscale" else SDXL
        return work_units(stage, at.replace(**changes)) / work_units(stage, at)

    assert grows("base", base_cfg=1.0) == pytest.approx(0.5, abs=0.03)  # one pass of the UNet a step instead of two
    assert grows("base", base_cfg=9.0) == 1
    assert grows("base", steps=70) == pytest.approx(2, rel=0.05) and grows("refine", steps=70) == 1
    assert grows("refine", strength=0.7) == pytest.approx(2, rel=0.15)
    assert grows("refine", hires_scale=1.5) == pytest.approx(2.67, abs=0.01) and grows("base", hires_scale=1.5) == 1
    assert grows("base", width=2048) == pytest.approx(2.2, abs=0.05)
    assert 1 < grows("faces", hires_scale=2.0) < 4  # a face is restored at one size whatever the picture's
    assert 1 < grows("scores", upscaler="realesrgan-x4plus") < 4
    assert grows("upscale", upscaler="realesr-animevideov3") < 0.1
    assert all(work_units(stage, enlarged) > 0 for stage in (*enlarged.stages, "scores")) and len(enlarged.stages) == 4


def test_a_size_that_was_measured_is_predicted_as_measured(costs: Costs) -> None:
    big, bigger = SDXL.replace(hires_scale=1.5), SDXL.replace(hires_scale=2.0)
    costs.learn("refine", SDXL, 10.0)
    costs.learn("refine", bigger, 60.0)  # attention takes more than the pixels say
    assert costs.seconds("refine", SDXL) == pytest.approx(10) and costs.seconds("refine", bigger) == pytest.approx(60)
    # the nearest by its number of pixels, scaled by the work: 1.5^2 is nearer to 2^2 than to 1
    work = work_units("refine", big) / work_units("refine", bigger)
    assert costs.seconds("refine", big) == pytest.approx(60 * work)
    tall = SDXL.replace(width=512, height=2048)
    assert costs.seconds("refine", tall) == pytest.approx(10)
    costs.learn("refine", big, 25.0)
    assert costs.seconds("refine", big) == pytest.approx(25)


def test_more_steps_and_guidance_take_longer_at_a_measured_size(costs: Costs) -> None:
    costs.learn("refine", SDXL, 10.0)
    longer = SDXL.replace(strength=2 * SDXL.strength)
    evaluations = longer.refine_evaluations / SDXL.refine_evaluations
    assert costs.seconds("refine", longer) == pytest.approx(10 * evaluations, rel=0.12)  # the VAE's part stays
    assert costs.seconds("refine", SDXL.replace(refine_cfg=1.0)) == pytest.approx(5, rel=0.15)


def test_batches_have_rates_of_their_own(costs: Costs) -> None:
    costs.learn("refine", SDXL, 10.0)
    costs.learn("refine", SDXL, 6.0, batch=8)
    assert costs.seconds("refine", SDXL) == pytest.approx(10) and costs.seconds("refine", SDXL, 8) == pytest.approx(6)
    assert costs.seconds("refine", SDXL, 4) == pytest.approx(6)  # the nearest
    costs.learn("faces", SDXL, 2.0, batch=8)  # which has no UNet batch
    assert costs.seconds("faces", SDXL) == pytest.approx(2)


def test_nothing_is_guessed(costs: Costs) -> None:
    costs.learn("refine", SDXL, 4.0)
    assert costs.seconds("refine", SDXL) == pytest.approx(4.0)
    assert costs.seconds("base", SDXL) is None and costs.seconds("refine", SDXL.replace(model="embedded")) is None
    costs.learn("base", SDXL, None)
    costs.learn("base", SDXL, 0.0)
    assert costs.seconds("base", SDXL) is None


def test_the_first_call_loads_the_weights_and_is_outvoted(costs: Costs) -> None:
    for seconds in (90.0, 5.0):
        costs.learn("base", SDXL, seconds)
    assert costs.seconds("base", SDXL) == pytest.approx(5)
    for seconds in (5.1, 0.01, 4.9, 300.0, 5.0):
        costs.learn("base", SDXL, seconds)
    assert costs.seconds("base", SDXL) == pytest.approx(5, rel=0.03)


def test_newer_runs_count_more(costs: Costs) -> None:
    for seconds in [8.0] * 20 + [2.0] * 8:  # a faster driver: a plain median would still say 8
        costs.learn("base", SDXL, seconds)
    assert costs.seconds("base", SDXL) == pytest.approx(2)


def test_bytes(costs: Costs) -> None:
    big = SDXL.replace(hires_scale=1.5)
    assert costs.bytes("refine", big) == BYTES_PER_PIXEL * 1536**2
    assert costs.bytes("base", big) == BYTES_PER_PIXEL * 1024**2
    costs.learn("refine", SDXL, None, size_bytes=2 * 1024**2)
    assert costs.bytes("refine", big) == pytest.approx(2 * 1536**2)
    assert costs.bytes("base", big) == BYTES_PER_PIXEL * 1024**2
    assert costs.bytes("upscale", big.replace(upscaler="realesrgan-x4plus")) == BYTES_PER_PIXEL * 3072**2


def test_kept_by_device_model_and_stage(tmp_path: Path) -> None:
    path = tmp_path / "store" / "costs.json"
    here = Costs(path, "cpu")
    here.learn("base", SDXL, 5.0)
    assert not path.exists()
    here.save()
    assert Costs(path, "cpu").seconds("base", SDXL) == pytest.approx(5)
    assert Costs(path, "another card").seconds("base", SDXL) is None
    assert list(json.loads(path.read_text())["cpu"]) == ["sdxl"]


def test_two_processes_keep_each_other_s_measurements(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    one, other = Costs(path, "cpu"), Costs(path, "cpu")
    one.learn("base", SDXL, 5.0)
    other.learn("refine", SDXL, 7.0, memory_bytes=10)
    one.save()
    other.save()
    other.save()  # once is enough
    both = Costs(path, "cpu")
    assert both.seconds("base", SDXL) == pytest.approx(5) and both.seconds("refine", SDXL) == pytest.approx(7)
    assert len(json.loads(path.read_text())["cpu"]["sdxl"]["refine"]["1024x1024"]["rates"]) == 1
    assert other.seconds("base", SDXL) == pytest.approx(5)


def test_savers_at_the_same_moment(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from workbench.sweeps import Costs; from workbench.settings import Settings\n"
        "for _ in range(3):\n"
        "    costs = Costs(Path(sys.argv[1]), 'cpu'); costs.learn('base', Settings(), 1.0); costs.save()"
    )
    path = tmp_path / "costs.json"
    workers = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    (row,) = json.loads(path.read_text())["cpu"]["sdxl"]["base"].values()
    assert len(row["rates"]) == 9 <= KEPT


def test_only_the_newest_are_kept(costs: Costs) -> None:
    for _ in range(3 * KEPT):
        costs.learn("base", SDXL, 1.0)
    costs.save()
    assert len(json.loads(costs.path.read_text())["a card float16"]["sdxl"]["base"]["1024x1024"]["rates"]) == KEPT


@pytest.mark.parametrize("content", ["{", "[]", "", '{"cpu": 3}'])
def test_a_damaged_file_is_measured_again(tmp_path: Path, content: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(content)
    costs = Costs(path, "cpu")
    assert costs.seconds("base", SDXL) is None
    costs.learn("base", SDXL, 5.0)
    costs.save()
    assert Costs(path, "cpu").seconds("base", SDXL) == pytest.approx(5)


def test_what_version_0_1_measured_counts(tmp_path: Path) -> None:
    """It kept no sizes: seconds per TFLOP, which are those of a unit of work at 1024 px."""
    path = tmp_path / "costs.json"
    old = {"rates": [0.2, 0.1, 0.1], "bytes": [2.0], "memory": {"1024x1024": 7, "1536x1536": 9}}
    path.write_text(json.dumps({"cpu": {"sdxl": {"base": old, "refine": {"rates": [0.5]}, "scores": {}}}}))
    costs = Costs(path, "cpu")
    assert costs.seconds("base", SDXL) == pytest.approx(0.1 * (SDXL.steps * 13.52 + 10.47))
    assert costs.seconds("refine", SDXL) == pytest.approx(0.5 * (SDXL.refine_evaluations * 14.57 + 4.88 + 10.47))
    assert costs.bytes("base", SDXL) == 2 * 1024**2 and costs.seconds("scores", SDXL) is None
    only_base = SDXL.replace(hires=False, restorer="none")
    assert costs.peak_memory(only_base)[1] == "estimated"  # it was the process's most, whatever it had run
    costs.learn("base", SDXL, 3.0)
    costs.save()
    again = Costs(path, "cpu")
    assert again.seconds("refine", SDXL) == costs.seconds("refine", SDXL)


def test_memory_is_measured_or_said_to_be_estimated(costs: Costs) -> None:
    embedded = Settings(model="embedded", width=256, height=256, hires_scale=2.0)
    size, how = costs.peak_memory(embedded)
    assert how == "estimated" and size is not None and size > 94e6 * 4  # CodeFormer alone
    bigger, _ = costs.peak_memory(embedded.replace(width=2048, height=2048))
    assert bigger is not None and bigger > size + 1e9
    without, _ = costs.peak_memory(embedded.replace(restorer="none"))
    assert without is not None and without < size - 94e6 * 3
    for stage, measured in (("base", 5), ("refine", 9), ("refine", 7)):
        costs.learn(stage, embedded, None, memory_bytes=measured)
    assert costs.peak_memory(embedded)[1] == "estimated"  # the faces were not measured
    costs.learn("faces", embedded, None, memory_bytes=3)
    assert costs.peak_memory(embedded) == (9, "measured")
    assert costs.peak_memory(embedded, batch=8)[1] == "estimated"
    assert costs.peak_memory(embedded.replace(hires_scale=3.0))[1] == "estimated"
    assert costs.peak_memory(Settings()) == (None, "estimated")  # no SDXL here


def test_the_estimate_of_full_size_sdxl(costs: Costs, tmp_path: Path) -> None:
    """Headers only: 10.67 GiB of float16 weights without the second VAE and text encoder, as counted on the real ones."""
    parameters = {"unet": 2567.46e6, "vae": 83.65e6, "text_encoder": 123.06e6, "text_encoder_2": 694.66e6}
    model = tmp_path / "sdxl"
    for part in ("base", "refiner"):
        shutil.copytree(CONFIGS / part, model / part)
        for name, count in parameters.items():
            folder = model / part / name
            weights = folder / (
                "diffusion_pytorch_model.safetensors" if name in ("unet", "vae") else "model.safetensors"
            )
            if part == "refiner" and name in ("vae", "text_encoder_2"):
                weights.symlink_to(model / "base" / name / weights.name)
            elif folder.is_dir():
                millions = 2259.53e6 if (part, name) == ("refiner", "unet") else count
                header_only(weights, {"w": (int(millions / 10), 10)})
    s = Settings(model=str(tmp_path / "sdxl"), width=768, height=768, hires_scale=2.0, restorer="none")
    s = s.replace(dtype="float16")
    size, how = costs.peak_memory(s)
    # beside them the VAE decoder at 1536 px: 3.38 GiB in float16, twice that in the float32 SDXL's VAE asks for
    assert how == "estimated" and size == pytest.approx((10.67 + 2 * 3.38) * 2**30, rel=0.01)
    many, _ = costs.peak_memory(s, batch=32)
    assert many == pytest.approx((10.67 + 32 * 0.83) * 2**30, rel=0.01)

    # what would fit into less: a smaller enlargement before a smaller base
    fits = costs.fitting(s, size or 0)
    assert fits is not None and s.diff(fits) == {"hires_scale": (2.0, 1.75)}
    needs = {scale: costs.peak_memory(s.replace(hires_scale=scale))[0] or 0 for scale in (1.0, 1.25, 1.5)}
    assert costs.fitting(s, needs[1.25] + 1) == s.replace(hires_scale=1.25)
    smaller = costs.fitting(s, needs[1.0])
    assert smaller is not None and (smaller.width, smaller.height) == (640, 640) and smaller.hires_scale <= 1.25
    assert costs.fitting(s, 10 * 2**30) is None  # the weights alone are more
    assert costs.fitting(s.replace(model="unknown"), 2**40) is None

    # one checkpoint for both passes: no second UNet in memory
    alone, _ = costs.peak_memory(s.replace(refiner="base"))
    assert (size or 0) - (alone or 0) == pytest.approx(2259.53e6 * 2, rel=0.01)
