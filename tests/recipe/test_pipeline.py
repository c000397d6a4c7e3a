from pathlib import Path

import numpy as np

from workbench.files.pictures import pixels_sha256, read_settings
from workbench.recipe.pipeline import Bench
from workbench.settings import Settings
from workbench.store.store import Store


def runs(result) -> dict[str, int]:
    return {name: count for name, count in result.counters["stages"].items() if count}


def test_only_what_changed_is_run_again(bench: Bench, tiny: Settings) -> None:
    settings = tiny.replace(restorer="codeformer")
    first = bench.generate(settings)
    assert runs(first) == {"base": 1, "refine": 1, "faces": 1}
    assert first.counters["unet_evaluations"] == {"base": 4, "refine": 4, "detail": 0}
    assert runs(bench.generate(settings)) == {}
    weight = bench.generate(settings.replace(weight=0.1))
    assert runs(weight) == {"faces": 1} and weight.counters["calls"]["unet_calls"] == 0
    assert runs(bench.generate(settings.replace(strength=0.6))) == {"refine": 1, "faces": 1}
    assert runs(bench.generate(settings.replace(seed=3))) == {"base": 1, "refine": 1, "faces": 1}


def test_reuse_outlives_the_process(home: Path, tiny: Settings) -> None:
    first = Bench(Store(home / "store")).generate(tiny)
    again = Bench(Store(home / "store"))
    second = again.generate(tiny)
    assert runs(second) == {} and again.loaded == ()  # not even a model was loaded
    assert pixels_sha256(first.image) == pixels_sha256(second.image)


def test_a_run_from_nothing_gives_the_same_pixels(tiny: Settings) -> None:
    first, second = (Bench(Store(None)).generate(tiny) for _ in range(2))
    assert runs(second) == {"base": 1, "refine": 1}
    assert pixels_sha256(first.image) == pixels_sha256(second.image)


def test_a_caller_cannot_spoil_the_store(bench: Bench, tiny: Settings) -> None:
    first = bench.generate(tiny)
    before = pixels_sha256(first.image)
    first.image.paste((0, 0, 0), (0, 0, 64, 64))
    assert pixels_sha256(bench.generate(tiny).image) == before


def test_stages_are_in_order_and_the_last_is_the_picture(bench: Bench, tiny: Settings) -> None:
    result = bench.generate(tiny.replace(restorer="codeformer", upscaler="realesr-animevideov3"))
    assert list(result.stages) == ["base", "refine", "faces", "upscale"]
    assert [i.size for i in result.stages.values()] == [(64, 64), (128, 128), (128, 128), (256, 256)]
    assert np.array_equal(np.asarray(result.image), np.asarray(result.stages["upscale"]))
    assert list(bench.generate(tiny.replace(hires=False)).stages) == ["base"]


def test_saved_picture_can_be_made_again(bench: Bench, tiny: Settings, tmp_path: Path) -> None:
    result = bench.generate(tiny.replace(seed=-1))
    path = result.save(tmp_path / "a.png")
    settings = read_settings(path)
    assert settings.seed >= 0
    assert pixels_sha256(Bench(Store(None)).generate(settings).image) == pixels_sha256(result.image)


def test_two_threads_share_one_bench(bench: Bench, tiny: Settings) -> None:
    from concurrent.futures import ThreadPoolExecutor

    alone = pixels_sha256(Bench(Store(None)).generate(tiny.replace(seed=2)).image)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda seed: bench.generate(tiny.replace(seed=seed)), [1, 2, 3, 2]))
    assert pixels_sha256(results[1].image) == pixels_sha256(results[3].image) == alone


def test_a_preview_is_no_result(home: Path, tiny: Settings) -> None:
    """Previews of the tuner filled the store."""
    bench = Bench(Store(home / "store"))
    bench.generate(tiny, keep=False)
    assert bench.store.entries() == [] and runs(bench.generate(tiny, keep=False)) == {}
    full = bench.generate(tiny)  # what the preview had in common with it is a result now
    assert runs(full) == {} and {entry.key for entry in bench.store.entries()} == set(full.keys.values())
    bench.generate(tiny, keep=False)
    assert runs(Bench(Store(home / "store")).generate(tiny)) == {}
