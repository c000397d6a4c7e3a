"""Fetching weights: against a local server that plays the hub, GitHub and Civitai, and misbehaves in every way they do."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import safetensors.numpy
from support.hub import COMMIT, LocalHub, serving

from workbench.errors import DiskFull, NeedsToken, PullFailed, UsageError, WorkbenchError
from workbench.machine import (
    REGISTRY,
    Weight,
    WeightFile,
    civitai,
    fetching,
    link_all,
    plan_pull,
    pull,
    pulled_files,
    pulling,
    verify_weight,
)
from workbench.machine.registry import LPIPS, needed
from workbench.models import inspect_model, licence_of, models_folder
from workbench.presets import load_preset

SIZE = 400_000
SEED = 19


def weights_file(
    count: int = SIZE // 4, names: Sequence[str] = ("weight",), shape: tuple[int, ...] | None = None
) -> bytes:
    numbers = np.random.default_rng(SEED).standard_normal(count, np.float32)
    return safetensors.numpy.save({name: numbers.reshape(shape or (count,)) for name in names})


WEIGHTS = weights_file()
LORA = weights_file(16, ("lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight"), (4, 4))


def lora(number: int) -> bytes:
    return safetensors.numpy.save(
        {f"lora_unet_x.lora_{half}.weight": np.full((4, 4), number, np.float32) for half in ("down", "up")}
    )


PIPELINE = {
    "model_index.json": b'{"_class_name": "StableDiffusionXLPipeline", "text_encoder": ["transformers", "CLIPTextModel"]}',
    "README.md": b"---\nlicense: openrail++\n---\n",
    "scheduler/scheduler_config.json": b"{}",
    "tokenizer/vocab.json": b"{}",
    "unet/config.json": b'{"in_channels": 4, "cross_attention_dim": 2048}',
    "unet/diffusion_pytorch_model.safetensors": b"the fp32 one",
    "unet/diffusion_pytorch_model.fp16.safetensors": WEIGHTS,
    "unet/model.onnx": b"another tool's",
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": WEIGHTS[::1],
    "sd_xl.safetensors": b"the same as one file",
}


@pytest.fixture
def hub(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A hub with one repository, in place of the real one; nothing waits before it tries again."""
    with serving(LocalHub(repos={"someone/face": dict(PIPELINE)})) as served:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", served.url)
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            served.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(fetching, "PAUSE", 0.0)
        for name in ("HF_TOKEN", "CIVITAI_API_TOKEN", "CIVITAI_TOKEN", "CIVITAI_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        yield served


def a_weight(hub: LocalHub, content: bytes = WEIGHTS, *, known: bool = True) -> Weight:
    """A weight of one file at an address of the local server, with its published digest."""
    hub.files["/releases/weight.safetensors"] = content
    inside = WeightFile("weight.safetensors", len(content), hashlib.sha256(content).hexdigest() if known else "")
    return Weight("weight", "", (), "", "weight.safetensors", (inside,), url=f"{hub.url}/releases/weight.safetensors")


def fetched(*names: str, weights: Sequence[Weight] = ()) -> list[Path]:
    return pull(plan_pull(names, weights=weights), lambda _: None)


def in_a_process(work: Callable[[], object], *, kill_after: float | None = None) -> int:
    """The exit status of `work` in a fork: 0, 1 of a `WorkbenchError`; negative: the signal that ended it."""
    pid = os.fork()
    if not pid:
        status = 2
        try:
            work()
            status = 0
        except WorkbenchError:
            status = 1
        finally:
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# --- what is fetched ------------------------------------------------------------------------------------------------


def test_of_a_pipeline_only_what_is_loaded_comes_and_a_second_pull_fetches_nothing(hub: LocalHub) -> None:
    fetched("someone/face")
    there = names_in(models_folder() / "face")
    assert there == set(PIPELINE) - {"unet/diffusion_pytorch_model.safetensors", "unet/model.onnx", "sd_xl.safetensors"}
    assert inspect_model("face").kind == "sdxl-base"
    assert licence_of("face", models_folder() / "face") == "face: openrail++"
    name = "unet/diffusion_pytorch_model.fp16.safetensors"
    record = pulled_files()[str(models_folder() / "face" / name)]
    assert (record.source, record.bytes) == (f"someone/face@{COMMIT}/{name}", len(WEIGHTS))
    sent = hub.sent
    assert plan_pull(["someone/face"]).bytes == 0
    fetched("someone/face")
    assert hub.sent == sent


def test_a_file_goes_where_its_content_says(hub: LocalHub) -> None:
    hub.repos["someone/lora"] = {"README.md": b"---\nlicense: mit\n---\n", "skin.safetensors": LORA}
    hub.repos["someone/many"] = {f"{n}.safetensors": lora(i) for i, n in enumerate(("a", "deep/b", "c"))}
    assert fetched("someone/lora") == [models_folder() / "loras" / "skin.safetensors"]
    assert fetched("someone/many/deep/b.safetensors") == [models_folder() / "loras" / "b.safetensors"]
    assert fetched(f"{hub.url}/someone/many/resolve/main/c.safetensors") == [
        models_folder() / "loras" / "c.safetensors"
    ]
    with pytest.raises(PullFailed, match=r"several files; name one: someone/many/a\.safetensors, someone/many/c"):
        fetched("someone/many")


def test_a_file_from_civitai_brings_its_licence(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(LORA).hexdigest().upper()
    monkeypatch.setenv("CIVITAI_ENDPOINT", hub.url)
    hub.files["/api/download/models/7"] = LORA
    hub.tokens["7"] = "secret"
    hub.json["/api/v1/models/3"] = {"modelVersions": [{"id": 7}, {"id": 6}]}
    hub.json["/api/v1/model-versions/7"] = {
        "model": {"name": "Skin", "allowCommercialUse": ["Image"]},
        "files": [{"name": "skin_v2.safetensors", "primary": True, "downloadUrl": f"{hub.url}/api/download/models/7",
                   "hashes": {"SHA256": digest}, "sizeKB": len(LORA) / 1024}],
    }  # fmt: skip
    page = f"{hub.url}/models/3/skin?modelVersionId=7&token=in-the-address"
    with pytest.raises(NeedsToken, match="CIVITAI_API_TOKEN"):
        fetched(page)
    monkeypatch.setenv("CIVITAI_API_TOKEN", "secret")
    assert plan_pull([page]).bytes == len(LORA)
    [place] = fetched(page)
    assert fetched(f"{hub.url}/models/3") == fetched(f"{hub.url}/api/download/models/7") == [place]
    assert place == models_folder() / "loras" / "skin_v2.safetensors"
    assert licence_of("skin_v2", place).endswith("commercial use allowed for Image, not for generation services; must not be "
                                                 "put behind a service without its publisher's leave")  # fmt: skip
    record = (models_folder() / "pulled.json").read_text()
    assert "secret" not in record and "in-the-address" not in record


def test_the_set_of_a_preset_is_what_it_loads() -> None:
    def names(preset: str, **changes: object) -> list[str]:
        return [weight.name for weight in needed(load_preset(preset).settings.replace(**changes))]

    assert names("recommended") == ["sdxl-base", "sdxl-refiner", "codeformer"]
    assert names("same-checkpoint") == ["sdxl-base", "codeformer"]
    assert names("embedded") == []
    assert names("same-checkpoint", refiner="sdxl") == names("recommended")
    assert names("same-checkpoint", refiner="sdxl", hires=False) == ["sdxl-base", "codeformer"]
    assert names("recommended", refiner="base", restorer="GFPGANv1.4.pth", vae="sdxl-vae-fp16-fix") == [
        "sdxl-base", "sdxl-vae-fp16-fix", "GFPGANv1.4",
    ]  # fmt: skip
    assert names("recommended", hires=False, restorer="none", upscaler="RealESRGAN_x2plus") == [
        "sdxl-base",
        "RealESRGAN_x2plus",
    ]
    assert sum(REGISTRY[name].bytes or 0 for name in names("recommended")) == pytest.approx(13.4e9, rel=0.01)


def test_the_token_of_civitai_goes_to_nobody_else(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIVITAI_API_TOKEN", "secret")
    assert civitai.headers("https://civitai.com/api/v1/models/1") == {"Authorization": "Bearer secret"}
    for other in ("http://civitai.com/x", "https://civitai.com.evil.example/x", f"{hub.url}/api/download/models/7"):
        assert civitai.headers(other) == {}


def test_the_very_file_is_not_fetched_twice_and_files_of_one_name_are_told_apart(hub: LocalHub) -> None:
    hub.repos |= {name: {"pytorch_lora_weights.safetensors": lora(i)} for i, name in enumerate(("a/one", "b/two"))}
    with pytest.raises(PullFailed, match=r"pytorch_lora_weights\.safetensors is another file; rename that one"):
        fetched("a/one", "b/two")
    place = models_folder() / "loras" / "pytorch_lora_weights.safetensors"
    assert place.read_bytes() == lora(0)
    sent = hub.sent
    assert fetched("a/one") == [place]
    assert hub.sent == sent
    place.rename(place.with_name("one.safetensors"))
    assert fetched("b/two") == [place]  # which came before, and waited
    assert (place.read_bytes(), hub.sent) == (lora(1), sent)
    hub.repos["c/face"] = dict(PIPELINE)
    fetched("someone/face")
    with pytest.raises(PullFailed, match="is of someone/face; rename that folder"):
        plan_pull(["c/face"])


def test_what_was_refused_is_not_taken_for_another_repositorys(hub: LocalHub) -> None:
    hub.repos |= {"c/odd": {"m.safetensors": WEIGHTS}, "d/good": {"m.safetensors": LORA}}
    with pytest.raises(PullFailed, match="no network that spandrel knows"):
        fetched("c/odd")
    [place] = fetched("d/good")
    assert place.read_bytes() == LORA


@pytest.mark.parametrize("into", ["../out", "/tmp/out", "~/out", "loras/../../out"])
def test_nothing_is_put_outside_the_models(hub: LocalHub, into: str) -> None:
    with pytest.raises(UsageError, match="leads out of"):
        plan_pull(["someone/face"], into=into)


# --- what goes wrong on the way -------------------------------------------------------------------------------------


def test_cut_at_twenty_points_it_goes_on_without_a_byte_twice(hub: LocalHub) -> None:
    hub.cut_after = sorted(random.Random(SEED).sample(range(1, len(WEIGHTS)), 20))
    [place] = fetched(weights=[a_weight(hub)])
    assert place.read_bytes() == WEIGHTS
    assert hub.sent == len(WEIGHTS)
    assert hub.cut_after == []


def test_killed_at_twenty_points_it_goes_on_and_nothing_half_bears_its_name(hub: LocalHub) -> None:
    weight, chance, hub.slow = a_weight(hub), random.Random(SEED), 0.004
    place, ended = weight.path(), []
    while not ended or ended[-1] != 0:
        assert len(ended) < 60
        ended.append(in_a_process(lambda: fetched(weights=[weight]), kill_after=chance.uniform(0.0, 0.05)))
        assert not place.exists() or place.read_bytes() == WEIGHTS
        if len(ended) >= 20:
            hub.slow = 0.0
            ended.append(in_a_process(lambda: fetched(weights=[weight])))
    assert ended.count(-signal.SIGKILL) >= 5  # as fast as it is, some were killed in the midst of it
    assert place.read_bytes() == WEIGHTS
    assert names_in(models_folder()) == {"weight.safetensors", "pulled.json", "pulled.lock"}


def test_without_room_at_twenty_points_it_says_so_and_goes_on(hub: LocalHub) -> None:
    weight = a_weight(hub)

    def with_room(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        try:
            fetched(weights=[weight])
        except DiskFull as error:
            os._exit(1 if "goes on" in str(error) or "continues" in str(error) else 3)

    for size in sorted(random.Random(SEED).sample(range(1, len(WEIGHTS)), 20)):
        assert in_a_process(lambda size=size: with_room(size)) == 1
        assert not weight.path().exists()
        assert fetching.part_of(weight.path()).stat().st_size == size  # all that there was room for
    assert fetched(weights=[weight])[0].read_bytes() == WEIGHTS


def test_two_pulls_at_once_fetch_it_once(hub: LocalHub) -> None:
    weight, hub.slow = a_weight(hub), 0.002
    pids = []
    for _ in range(2):
        if not (pid := os.fork()):
            fetched(weights=[weight])
            os._exit(0)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0]
    assert weight.path().read_bytes() == WEIGHTS
    assert hub.sent == len(WEIGHTS)


def test_other_bytes_than_were_published_are_fetched_anew_once_and_then_refused(hub: LocalHub) -> None:
    weight = a_weight(hub)
    hub.wrong["weight.safetensors"] = 1
    assert fetched(weights=[weight])[0].read_bytes() == WEIGHTS
    weight.path().unlink()
    hub.wrong["weight.safetensors"] = 2
    with pytest.raises(PullFailed, match=r"is not what was published: its digest is .* fetched twice"):
        fetched(weights=[weight])
    assert not weight.path().exists()
    assert fetched(weights=[weight])[0].read_bytes() == WEIGHTS


def test_without_a_digest_a_cut_file_is_not_taken_and_another_version_begins_anew(hub: LocalHub) -> None:
    weight = a_weight(hub, known=False)
    part = fetching.part_of(weight.path())
    part.parent.mkdir(parents=True)
    part.write_bytes(b"of yesterday" * 1000)
    Path(f"{part}.version").write_text('"zero"')
    assert fetched(weights=[weight])[0].read_bytes() == WEIGHTS
    hub.files["/releases/weight.safetensors"] = WEIGHTS[:-100]
    weight.path().unlink()
    short = replace(weight, files=(WeightFile("weight.safetensors"),))
    with pytest.raises(PullFailed, match="cut short"):
        fetched(weights=[short])
    assert not weight.path().exists()


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, NeedsToken, "fetch it with a browser"),
        (403, NeedsToken, "to everybody"),
        (404, PullFailed, "check its address"),
        (418, PullFailed, "answers HTTP 418"),
        (503, PullFailed, r"HTTP 503\); what came so far is kept"),
    ],
)
def test_each_refusal_is_a_sentence(hub: LocalHub, status: int, error: type[WorkbenchError], words: str) -> None:
    hub.status["weight.safetensors"] = (status, {})
    with pytest.raises(error, match=words):
        fetched(weights=[a_weight(hub)])
    assert names_in(models_folder()) == set()


def test_another_version_is_not_put_behind_the_beginning_of_one(hub: LocalHub) -> None:
    """Of a server that goes on where it is asked to, whatever the file has become."""
    weight = a_weight(hub, known=False)
    part = fetching.part_of(weight.path())
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(1000))
    Path(f"{part}.version").write_text('"zero"')
    hub.honours_versions = False
    assert fetched(weights=[weight])[0].read_bytes() == WEIGHTS


def test_what_was_there_as_a_whole_is_only_checked(hub: LocalHub) -> None:
    weight = replace(
        a_weight(hub), files=(WeightFile("weight.safetensors", None, hashlib.sha256(WEIGHTS).hexdigest()),)
    )
    part = fetching.part_of(weight.path())
    part.parent.mkdir(parents=True)
    part.write_bytes(WEIGHTS)
    remote = fetching.Download(weight.url, digest=weight.files[0].digest)
    fetching.fetch(remote, weight.path(), lambda _: None)
    assert (weight.path().read_bytes(), hub.sent) == (WEIGHTS, 0)


def test_no_error_shows_what_is_secret_in_an_address(hub: LocalHub) -> None:
    address = f"{hub.url.replace('://', '://me:hidden@')}/releases/none.safetensors?token=hidden"
    with pytest.raises(PullFailed) as error:
        fetched(address)
    assert "hidden" not in str(error.value)
    with pytest.raises(UsageError, match="is no address"):
        plan_pull(["http://[::1/x.safetensors"])


def test_a_server_that_asks_for_patience_gets_it_within_reason(hub: LocalHub) -> None:
    hub.status["weight.safetensors"] = (429, {"Retry-After": "1"})
    hub.once.add("weight.safetensors")
    began = time.monotonic()
    fetched(weights=[weight := a_weight(hub)])
    assert time.monotonic() - began >= 1
    weight.path().unlink()
    hub.status["weight.safetensors"] = (429, {"Retry-After": "7200"})
    with pytest.raises(PullFailed, match="come back in 120 minutes"):
        fetched(weights=[weight])


def test_what_the_hub_refuses_is_a_sentence(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.tokens["someone/face"] = "secret"
    with pytest.raises(NeedsToken, match=r"someone/face is gated: accept its terms on its page, and set HF_TOKEN"):
        fetched("someone/face")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert plan_pull(["someone/face"]).bytes > len(WEIGHTS)
    with pytest.raises(PullFailed, match="the hub has no repository someone/nothing"):
        fetched("someone/nothing")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PullFailed, match="the hub does not answer about someone/face"):
        fetched("someone/face")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PullFailed, match="HF_HUB_OFFLINE is set; unset it"):
        fetched("someone/face")
    with pytest.raises(PullFailed, match="HF_HUB_OFFLINE is set; unset it"):
        fetched(weights=[a_weight(hub)])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("codeforme", "did you mean codeformer"),
        ("https://example.com/page", r"names no \.safetensors or \.pth file"),
    ],
)
def test_a_name_that_means_nothing_is_refused(hub: LocalHub, name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan_pull([name])


def test_without_room_for_all_of_it_nothing_is_begun(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "_free", lambda: 300_000_000)
    plan_pull([], weights=[a_weight(hub)])
    large = replace(a_weight(hub), files=(WeightFile("weight.safetensors", 1_000_000_000),))
    with pytest.raises(DiskFull, match=r"1 GB are to be fetched .* 300 MB are free there: 900 MB too few"):
        plan_pull([], weights=[large])


def test_a_file_that_the_workbench_does_not_use_is_kept_and_said(hub: LocalHub) -> None:
    hub.repos["someone/odd"] = {"odd.safetensors": WEIGHTS}
    with pytest.raises(
        PullFailed, match=r"no network that spandrel knows .* It stays at .*odd\.safetensors; delete it"
    ):
        fetched("someone/odd")
    [kept] = (models_folder() / pulling.INCOMING).rglob("odd.safetensors")
    assert kept.read_bytes() == WEIGHTS
    sent = hub.sent
    plan = plan_pull(["someone/odd"], into="upscalers")
    assert plan.bytes == 0
    assert pull(plan, lambda _: None) == [models_folder() / "upscalers/odd.safetensors"]
    assert hub.sent == sent


# --- what is there already ------------------------------------------------------------------------------------------


def test_what_the_hugging_face_cache_has_is_used_in_place(hub: LocalHub, tmp_path: Path) -> None:
    weight = Weight(
        "face", "", (), "", "face/base",
        tuple(WeightFile(n) for n in ("model_index.json", "unet/diffusion_pytorch_model.fp16.safetensors")),
        repo="someone/face", revision=COMMIT,
    )  # fmt: skip
    snapshot = tmp_path / "hub" / "models--someone--face" / "snapshots" / COMMIT
    (snapshot / "unet").mkdir(parents=True)
    cached = snapshot / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    cached.write_bytes(WEIGHTS)
    fetched(weights=[weight])
    place = weight.path() / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    assert place.is_symlink()
    assert place.resolve() == cached.resolve()
    assert hub.sent == len(PIPELINE["model_index.json"])
    assert [check.status for check in verify_weight(weight)] == ["ok", "not published"]


def test_another_tools_folder_is_used_in_place(hub: LocalHub, tmp_path: Path) -> None:
    webui = tmp_path / "stable-diffusion-webui" / "models"
    for name, content in {
        "Lora/skin.safetensors": LORA, "Stable-diffusion/cut.safetensors": WEIGHTS[:1000], "any/readme.txt": b"",
    }.items():  # fmt: skip
        (webui / name).parent.mkdir(parents=True, exist_ok=True)
        (webui / name).write_bytes(content)
    (webui / "any" / "out").symlink_to(tmp_path)
    (webui / "any" / "old.ckpt").write_bytes(b"PK")
    found = {each.target.name: each for each in link_all(webui)}
    assert found["skin.safetensors"].path == models_folder() / "loras" / "skin.safetensors"
    assert (models_folder() / "loras" / "skin.safetensors").resolve() == webui / "Lora" / "skin.safetensors"
    assert found["cut.safetensors"].path is None
    assert "cut short" in found["cut.safetensors"].said
    assert "is a pickle" in found["old.ckpt"].said and "is a link to a folder" in found["out"].said
    assert len(found) == 4
    assert {each.said for each in link_all(webui) if each.path} == {"is there already"}
    with pytest.raises(PullFailed, match="is no folder"):
        link_all(tmp_path / "nothing")


def test_a_weight_in_another_tools_folder_is_known_by_size_and_digest(hub: LocalHub, tmp_path: Path) -> None:
    weight = a_weight(hub)
    other = tmp_path / "models" / "deep"
    other.mkdir(parents=True)
    (other / "weight.safetensors").write_bytes(WEIGHTS[:-4] + b"else")
    assert [piece.how for piece in plan_pull([], weights=[weight], folder=other.parent).pieces] == ["fetch"]
    (other / "weight.safetensors").write_bytes(WEIGHTS)
    pull(plan_pull([], weights=[weight], folder=other.parent), lambda _: None)
    assert weight.path().resolve() == other / "weight.safetensors"
    assert hub.sent == 0


def test_a_changed_weight_is_found(hub: LocalHub) -> None:
    weight = a_weight(hub)
    fetched(weights=[weight])
    assert [check.status for check in verify_weight(weight)] == ["ok"]
    weight.path().write_bytes(WEIGHTS[:-4] + b"else")
    assert [check.status for check in verify_weight(weight)] == ["wrong"]
    weight.path().unlink()
    assert [check.status for check in verify_weight(weight)] == ["missing"]


def test_the_registry_says_of_each_weight_what_a_user_asks() -> None:
    for weight in REGISTRY.values():
        assert weight.licence and weight.about and weight.needed_by and weight.source
        assert weight.bytes or weight in (REGISTRY["RestoreFormer"], LPIPS)
    assert json.dumps([weight.source for weight in REGISTRY.values()]).count("http") == len(REGISTRY) - 4
