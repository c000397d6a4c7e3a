"""A1111's API, asked by a client that others wrote for A1111, and by requests with every field of its documentation."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import requests
import uvicorn
import webuiapi
from fastapi.testclient import TestClient
from PIL import Image
from support.servers import free_port

from workbench.errors import BadRequest
from workbench.files.pictures import pixels_sha256, png_bytes
from workbench.presets import Preset
from workbench.recipe.pipeline import Bench
from workbench.serve.access import Access
from workbench.serve.app import create_app
from workbench.serve.picture_text import parameters_of
from workbench.serve.queueing import Order, PictureProgress, PictureQueue
from workbench.serve.webui import _progress
from workbench.serve.webui_fields import Understood, understood
from workbench.serve.webui_names import differs, served_model
from workbench.settings import Settings
from workbench.store.store import Store

OPENED = ("prompt", "negative_prompt", "seed", "steps")
DOCUMENTED: dict[str, Any] = {  # the example of a v1.10 server's /docs, with its placeholders
    "prompt": "a face", "negative_prompt": "", "styles": ["string"], "seed": 5, "subseed": -1, "subseed_strength": 0,
    "seed_resize_from_h": -1, "seed_resize_from_w": -1, "sampler_name": "string", "scheduler": "string", "batch_size": 1,
    "n_iter": 1, "steps": 50, "cfg_scale": 7, "width": 512, "height": 512, "restore_faces": True, "tiling": True,
    "do_not_save_samples": False, "do_not_save_grid": False, "eta": 0, "denoising_strength": 0, "s_min_uncond": 0,
    "s_churn": 0, "s_tmax": 0, "s_tmin": 0, "s_noise": 0, "override_settings": {},
    "override_settings_restore_afterwards": True, "refiner_checkpoint": "string", "refiner_switch_at": 0,
    "disable_extra_networks": False, "firstpass_image": "string", "comments": {}, "enable_hr": False, "firstphase_width": 0,
    "firstphase_height": 0, "hr_scale": 2, "hr_upscaler": "string", "hr_second_pass_steps": 0, "hr_resize_x": 0,
    "hr_resize_y": 0, "hr_checkpoint_name": "string", "hr_sampler_name": "string", "hr_scheduler": "string",
    "hr_prompt": "", "hr_negative_prompt": "", "force_task_id": "string", "sampler_index": "Euler", "script_name": "string",
    "script_args": [], "send_images": True, "save_images": False, "alwayson_scripts": {}, "infotext": "string",
}  # fmt: skip


class HeldBench(Bench):
    """The real one, which makes a picture only once its seed is not held any more."""

    seeds: ClassVar[set[int]] = set()

    def generate(self, s: Settings, report: Any, show: Any, **more: Any) -> Any:  # type: ignore[override]
        while s.seed in self.seeds:
            report("base", 1, 2)
            time.sleep(0.01)
        return super().generate(s, report, show, **more)


@contextmanager
def held(seed: int) -> Iterator[None]:
    HeldBench.seeds.add(seed)
    try:
        yield
    finally:
        HeldBench.seeds.discard(seed)


FORKS = {
    "hr_cfg": 1, "hr_additional_modules": ["string"], "distilled_cfg_scale": 3, "hr_distilled_cfg": 3, "clip_skip": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def url(tiny: Settings) -> Iterator[str]:
    """A server of the random model, whose preset opens its steps."""
    port = free_port()
    app = create_app(Preset("face", tiny, licences=["a licence"], allow=OPENED), bench=HeldBench(Store(None)))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def api(url: str) -> Any:  # its annotations say a task where it answers a result
    return webuiapi.WebUIApi(baseurl=f"{url}/sdapi/v1", steps=4)


def until(so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.03)


def post(url: str, path: str, body: Any) -> requests.Response:
    return requests.post(f"{url}/sdapi/v1/{path}", json=body, timeout=60)


def generated(url: str, **values: Any) -> list[Image.Image]:
    """The pictures of our own address."""
    answer = requests.post(f"{url}/generate", json=values, timeout=60).json()
    found = answer.get("images", [answer["image"]])
    return [Image.open(io.BytesIO(base64.b64decode(each.partition(",")[2]))) for each in found]


def hashes(images: list[Image.Image]) -> list[str]:
    return [pixels_sha256(image) for image in images]


def asks(tiny: Settings, *allow: str, **fields: Any) -> Understood:
    """What a request means to a preset that opens `allow`."""
    preset = Preset("face", tiny, allow=("prompt", "negative_prompt", "seed", *allow))
    return understood({"prompt": "x", **fields}, preset, differs(tiny))


# --- a client that was written for A1111 ---------------------------------------------------------------------------


def test_a_client_gets_the_pictures_of_generate(api: Any, url: str, tiny: Settings) -> None:
    result = api.txt2img(prompt="a face, smiling", seed=42, n_iter=2)
    assert hashes(result.images) == hashes(generated(url, prompt="a face, smiling", seed=42, n=2))
    info = result.info
    assert (info["prompt"], info["all_seeds"], info["width"], info["steps"]) == ("a face, smiling", [42, 43], 64, 4)
    assert info["sd_model_name"] == served_model(tiny).name and len(info["sd_model_hash"]) == 10
    assert result.image.text["parameters"] == info["infotexts"][0]
    assert info["ignored"]["width"] == {"used": 64, "why": "the preset does not open width"}
    assert info["ignored"]["sampler_name"]["used"] == "DPM++ 2M Karras"
    assert info["ignored"]["negative_prompt"]["used"] == "blurry"
    assert not {"steps", "cfg_scale", "tiling", "styles", "eta"} & info["ignored"].keys()  # it asked for what is done
    assert result.parameters["width"] == 512


def test_a_clients_negative_prompt_and_open_settings_act(api: Any, url: str) -> None:
    result = api.txt2img(prompt="a face", negative_prompt="dark", seed=1, steps=3)
    assert hashes(result.images) == hashes(generated(url, prompt="a face", negative_prompt="dark", seed=1, steps=3))
    assert not {"steps", "negative_prompt"} & result.info["ignored"].keys()


def test_a_client_finds_the_model_and_may_choose_it(api: Any) -> None:
    (model,) = api.get_sd_models()
    assert api.util_get_current_model() == model["title"] == f"{model['model_name']} [{model['hash']}]"
    api.util_set_model(model["model_name"])
    for name in (model["title"], model["model_name"].upper(), model["hash"]):
        assert api.set_options({**api.get_options(), "sd_model_checkpoint": name}) == {"ignored": {}}
    assert model["title"] in api.set_options({"sd_model_checkpoint": "another.safetensors"})["error"]
    assert "CLIP_stop_at_last_layers is 2" in api.set_options({"CLIP_stop_at_last_layers": 3})["detail"]
    assert list(api.set_options({"samples_save": False})["ignored"]) == ["samples_save"]


def test_a_client_reads_what_there_is(api: Any) -> None:
    assert api.util_get_sampler_names() == ["DPM++ 2M"] and api.util_get_scheduler_names() == ["karras"]
    assert [each["name"] for each in api.get_upscalers()] == ["Lanczos"]
    assert api.get_loras() == api.get_sd_vae() == api.get_face_restorers() == []
    assert api.get_scripts() == {"txt2img": [], "img2img": []}
    assert api.get_memory()["ram"] == {"error": "not measured"}
    assert api.refresh_checkpoints() is None


def test_a_client_reads_a_pictures_settings(api: Any) -> None:
    picture = api.txt2img(prompt="a face, smiling", seed=7).image
    found = api.png_info(picture)
    assert found.info == picture.text["parameters"]
    assert found.parameters["Prompt"] == "a face, smiling" and found.parameters["Seed"] == "7"
    assert (found.parameters["Size-1"], found.parameters["Hires upscale"]) == ("64", "2")
    assert found.parameters["Model"] == "tiny"
    assert json.loads(found.json["items"]["workbench"])["settings"]["seed"] == 7


def test_a_client_follows_its_picture_and_interrupts_it(api: Any) -> None:
    assert api.get_progress()["progress"] == 0 and api.interrupt()["interrupted"] is False
    with ThreadPoolExecutor() as pool, held(71):
        made = pool.submit(api.txt2img, prompt="a face", seed=71)
        until(lambda: api.get_progress()["state"]["sampling_step"] == 1)
        at = api.get_progress()
        assert 0 < at["progress"] < 1 and at["state"]["job_count"] == 1 and at["state"]["sampling_steps"] == 2
        assert at["textinfo"] == "Base" and at["current_image"] is None
        assert api.interrupt()["interrupted"] is True
        with pytest.raises(RuntimeError, match="interrupted before its first picture"):
            made.result(20)
    until(lambda: api.get_progress()["progress"] == 0)


def test_finished_pictures_of_an_interrupted_order_are_answered(api: Any) -> None:
    with ThreadPoolExecutor() as pool, held(82):
        made = pool.submit(api.txt2img, prompt="a face", seed=80, n_iter=4)
        until(lambda: api.get_progress()["state"]["job_no"] == 2)
        assert api.get_progress()["progress"] > 0.5
        api.interrupt()
        assert made.result(20).info["all_seeds"] == [80, 81]


def test_a_skipped_picture_is_left_out_and_the_next_one_made(api: Any) -> None:
    with ThreadPoolExecutor() as pool, held(90):
        made = pool.submit(api.txt2img, prompt="a face", seed=90, n_iter=2)
        until(lambda: api.get_progress()["state"]["sampling_step"] == 1)
        assert api.skip()["interrupted"] is True
        assert made.result(20).info["all_seeds"] == [91]


def test_an_order_that_waits_is_interrupted_too_but_none_of_another_address(api: Any, url: str) -> None:
    with ThreadPoolExecutor() as pool:
        with held(101):
            other = pool.submit(generated, url, prompt="a face", seed=101)
            until(lambda: api.get_progress()["progress"] > 0)
            assert api.interrupt()["interrupted"] is api.skip()["interrupted"] is False
            made = pool.submit(api.txt2img, prompt="a face", seed=102)
            until(lambda: api.interrupt()["interrupted"])
            with pytest.raises(RuntimeError, match="409"):
                made.result(20)
        assert len(other.result(20)) == 1


def test_the_picture_after_a_stage_is_shown_to_whoever_ordered_it(tiny: Settings) -> None:
    queue = PictureQueue(Bench(Store(None)))
    order = Order(Preset("face", tiny), (tiny,), "a")
    order.tell(PictureProgress(0, "refine", 1, 2, preview=Image.new("RGB", (8, 8))))
    service: Any = SimpleNamespace(queue=queue)
    own, others = _progress(service, order, True, True), _progress(service, order, False, False)
    assert Image.open(io.BytesIO(base64.b64decode(own["current_image"]))).size == (384, 384)
    assert others["current_image"] is None and "another client" in others["textinfo"]
    assert own["progress"] == others["progress"] == 0.75
    queue.close()


# --- requests written from its documentation -----------------------------------------------------------------------


def test_every_documented_field_is_accepted_and_idle_ones_are_listed(url: str, tiny: Settings) -> None:
    answer = post(url, "txt2img", {**DOCUMENTED, **FORKS, "steps": 4})
    assert answer.status_code == 200
    info = json.loads(answer.json()["info"])
    assert pixels_sha256(Image.open(io.BytesIO(base64.b64decode(answer.json()["images"][0])))) == hashes(
        generated(url, prompt="a face", seed=5)
    )[0]  # fmt: skip
    assert info["ignored"].keys() >= {
        "styles", "sampler_name", "width", "restore_faces", "tiling", "eta", "s_noise", "refiner_checkpoint",
        "enable_hr", "firstpass_image", "hr_checkpoint_name", "hr_upscaler", "script_name", "infotext", "force_task_id",
        *FORKS,
    }  # fmt: skip
    assert not {"subseed", "override_settings", "save_images", "hr_prompt", "seed"} & info["ignored"].keys()
    assert info["ignored"]["tiling"]["why"] == "pictures that tile are not made"


def test_fields_may_be_null_and_pictures_may_stay_away(url: str) -> None:
    body = {**dict.fromkeys({**DOCUMENTED, **FORKS}), "prompt": "a face", "send_images": False}
    answer = post(url, "txt2img", body).json()
    info = json.loads(answer["info"])
    assert answer["images"] == [] and info["ignored"] == {} and 0 <= info["seed"] < 2**32


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"prompt": "x", "promt": "y"}, "did you mean 'prompt'?"),
        ({"prompt": "x", "hr_scal": 2}, "did you mean 'hr_scale'?"),
        ({"prompt": " "}, "prompt is blank"),
        ({"prompt": "x", "n_iter": 3, "batch_size": 2}, "more than 4, the most pictures"),
        ({"prompt": "x", "batch_size": 0}, "from 1"),
        ({"prompt": "x", "n_iter": 10**400}, "n_iter"),
        ({"prompt": "x", "hr_second_pass_steps": 10**400}, "hr_second_pass_steps"),
        ({"prompt": "x", "width": "wide"}, "width = 'wide'"),
        ({"prompt": "x", "steps": 0}, "steps = 0"),
        ({"prompt": "x", "alwayson_scripts": []}, "alwayson_scripts"),
        ({"prompt": "<lora:../x:1>"}, "not open"),
        ([1], "no JSON object"),
    ],
)
def test_a_wrong_request_is_refused_in_words(url: str, body: object, said: str) -> None:
    answer = post(url, "txt2img", body)
    assert answer.status_code == 422 and said in answer.json()["error"]
    assert answer.json().keys() == {"error", "detail", "body", "errors"}


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"prompt": "\\ud800"}', b'{"prompt": "x", "eta": NaN}', b'{"a":' * 5000, b"\xff"]
)
def test_a_body_that_is_no_json_is_refused_in_words(url: str, body: bytes) -> None:
    answer = requests.post(f"{url}/sdapi/v1/txt2img", data=body, timeout=20)
    assert answer.status_code == 422 and "no JSON" in answer.json()["detail"]


def test_what_is_nested_deeply_is_answered(url: str) -> None:
    deep = json.loads('{"a":' * 400 + "1" + "}" * 400)
    assert post(url, "txt2img", {"prompt": "x", "alwayson_scripts": deep, "send_images": False}).status_code == 200


def test_other_addresses_are_refused_in_words(url: str) -> None:
    unknown, get = post(url, "img2img", {}), requests.get(f"{url}/sdapi/v1/txt2img", timeout=20)
    assert unknown.status_code == 404 and "img2img" in unknown.json()["detail"]
    assert get.status_code == 405 and "GET" in get.json()["detail"]
    assert requests.get(f"{url}/openapi.json", timeout=20).status_code == 200


def test_no_answer_has_a_path_of_this_machine(url: str, tiny: Settings) -> None:
    names = (
        "options", "sd-models", "samplers", "schedulers", "upscalers", "sd-vae", "loras", "face-restorers", "progress",
    )  # fmt: skip
    said = [requests.get(f"{url}/sdapi/v1/{name}", timeout=20).text for name in names]
    said += [
        post(url, "txt2img", DOCUMENTED | {"steps": 1}).text,
        post(url, "options", {"sd_model_checkpoint": "y"}).text,
    ]
    assert not [text for text in said if str(Path(tiny.model).parent) in text]


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("", "missing"),
        (7, "missing"),
        ("%%%", "no base64"),
        ("aGVsbG8=", "cannot be read"),
        ("http://127.0.0.1/x.png", "fetches no pictures"),
        (base64.b64encode(png_bytes(Image.effect_noise((64, 64), 50))[:2000]).decode(), "cannot be read"),
        (base64.b64encode(png_bytes(Image.new("1", (10_000, 7000)))).decode(), "64 megapixels"),
    ],
)
def test_a_picture_that_is_none_is_refused(url: str, image: object, said: str) -> None:
    answer = post(url, "png-info", {"image": image})
    assert answer.status_code == 422 and said in answer.json()["error"]


def test_the_text_of_a_jpeg_is_read_and_a_picture_may_have_none(url: str) -> None:
    picture, exif, buffer = Image.new("RGB", (8, 8)), Image.Exif(), io.BytesIO()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "a lake\nSteps: 4, Sampler: Euler, Seed: 1".encode("utf-16-be")
    picture.save(buffer, "JPEG", exif=exif)
    found = post(url, "png-info", {"image": "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()})
    assert found.json()["parameters"] == {
        "Prompt": "a lake", "Negative prompt": "", "Steps": "4", "Sampler": "Euler", "Seed": "1",
    }  # fmt: skip
    plain = post(url, "png-info", {"image": base64.b64encode(png_bytes(picture)).decode()})
    assert plain.json() == {"info": "", "items": {}, "parameters": {}}


def test_a_text_of_others_is_read() -> None:
    found = parameters_of(
        'a\nb\nNegative prompt: c\nd\nSteps: 4, Hires prompt: "x, \\"y\\": z", Size: 8x16, CFG scale: 1.5'
    )
    assert found["Prompt"] == "a\nb" and found["Negative prompt"] == "c\nd" and found["Hires prompt"] == 'x, "y": z'
    assert (found["Size-1"], found["Size-2"], found["CFG scale"]) == ("8", "16", "1.5")
    began = time.monotonic()
    assert parameters_of("a" * 1_000_000) == {} and parameters_of('a:"' * 300_000) is not None
    assert time.monotonic() - began < 1


# --- what fields mean ----------------------------------------------------------------------------------------------


def test_samplers_have_the_meaning_that_they_have_there(tiny: Settings) -> None:
    for same in (
        {"sampler_name": "DPM++ 2M Karras"}, {"sampler_name": "DPM++ 2M", "scheduler": "karras"},
        {"sampler_name": "DPM++ 2M", "scheduler": "Automatic"}, {"sampler_index": "DPM++ 2M"}, {"scheduler": "automatic"},
    ):  # fmt: skip
        assert asks(tiny, **same).ignored == {}
    other = {"sampler_name": "DPM++ 2M SDE", "scheduler": "sgm_uniform"}
    assert asks(tiny, **other).ignored.keys() == {"sampler_name"}
    values = asks(tiny, "sampler", "schedule", **other).request.values
    assert (values["sampler"], values["schedule"]) == ("DPM++ 2M SDE", "SGM Uniform")
    assert asks(tiny, "sampler", "schedule", scheduler="Exponential").request.values["schedule"] == "Exponential"
    assert asks(tiny, "schedule", scheduler="Exponential").ignored.keys() >= {"scheduler"}


def test_hires_steps_are_those_that_run(tiny: Settings) -> None:
    assert tiny.refine_evaluations == 4
    assert asks(tiny, hr_second_pass_steps=4).ignored == asks(tiny, hr_second_pass_steps=0).ignored == {}
    values = asks(tiny, "refine_steps", hr_second_pass_steps=8).request.values
    assert tiny.replace(refine_steps=values["refine_steps"]).refine_evaluations == 8
    values = asks(tiny, "strength", "refine_steps", denoising_strength=0.8, hr_second_pass_steps=4).request.values
    assert (values["strength"], values["refine_steps"]) == (0.8, 5)


def test_without_a_hires_fix_its_fields_mean_nothing(tiny: Settings) -> None:
    off = asks(tiny, "hires", "strength", enable_hr=False, denoising_strength=0, hr_scale=9)
    assert off.request.values["hires"] is False and "strength" not in off.request.values and off.ignored == {}
    shut = asks(tiny.replace(hires=False), enable_hr=True, hr_scale=3)
    assert shut.ignored.keys() == {"enable_hr", "hr_scale"}


def test_cfg_is_of_both_passes_and_files_are_no_paths(tiny: Settings) -> None:
    values = asks(tiny, "base_cfg", "refine_cfg", cfg_scale=5).request.values
    assert (values["base_cfg"], values["refine_cfg"]) == (5, 5)
    assert asks(tiny, "base_cfg", cfg_scale=5).ignored["cfg_scale"]["used"] == 7
    values = asks(tiny, "base_cfg", "refine_cfg", cfg_scale=5, hr_cfg=7).request.values
    assert (values["base_cfg"], values["refine_cfg"]) == (5, 7)
    assert asks(tiny, clip_skip=1).ignored == {}
    assert asks(tiny, "clip_skip", clip_skip=3).request.values["clip_skip"] == 1
    assert asks(tiny, "resampler", hr_upscaler="R-ESRGAN 4x+").request.values["resampler"] == "realesrgan-x4plus"
    with pytest.raises(BadRequest, match="no path"):
        asks(tiny, "resampler", hr_upscaler="/etc/passwd")


def test_a_single_file_is_named_as_it_is_there(tiny: Settings, tmp_path: Path) -> None:
    (tmp_path / "realvis5.safetensors").write_bytes(b"weights")
    model = served_model(tiny.replace(model=str(tmp_path / "realvis5.safetensors")))
    digest = hashlib.sha256(b"weights").hexdigest()
    assert (model.name, model.filename, model.sha256) == ("realvis5", "realvis5.safetensors", digest)
    assert model.title == f"realvis5.safetensors [{digest[:10]}]"
    assert served_model(tiny.replace(model="lost.safetensors")).title == "lost.safetensors"


def test_options_of_a_request_are_looked_at(tiny: Settings) -> None:
    name = served_model(tiny).title
    same = {
        "sd_model_checkpoint": name,
        "CLIP_stop_at_last_layers": 1,
        "sd_vae": "Automatic",
        "code_former_weight": 0.6,
    }
    assert asks(tiny, override_settings=same).ignored == {}
    other = asks(tiny, override_settings={"sd_model_checkpoint": "other", "live_previews": 1}).ignored
    assert other["override_settings.sd_model_checkpoint"]["used"] == name and "override_settings.live_previews" in other


# --- who may ask ---------------------------------------------------------------------------------------------------


def test_the_token_is_a_password_and_refusals_have_its_form(tiny: Settings) -> None:
    app = create_app(Preset("face", tiny), access=Access("0123456789", host="testserver"))
    asked = TestClient(app)
    refused = asked.get("/sdapi/v1/sd-models")
    assert refused.status_code == 401 and refused.json()["detail"] == refused.json()["error"]
    assert asked.get("/sdapi/v1/sd-models", auth=("anybody", "0123456789")).status_code == 200


@pytest.mark.parametrize(("most", "status"), [({"per_client": 0}, 429), ({"limit": 0}, 503)])
def test_a_full_queue_says_when_to_come_again(tiny: Settings, most: dict[str, Any], status: int) -> None:
    app = create_app(Preset("face", tiny), access=Access(host="testserver"), **most)
    refused = TestClient(app).post("/sdapi/v1/txt2img", json={"prompt": "x"})
    assert refused.status_code == status and int(refused.headers["Retry-After"]) > 0 and refused.json()["detail"]


def test_a_client_that_leaves_takes_its_order_along(api: Any, url: str) -> None:
    with held(120):
        with pytest.raises(requests.Timeout):
            requests.post(f"{url}/sdapi/v1/txt2img", json={"prompt": "x", "seed": 120}, timeout=1)
        until(lambda: api.get_progress()["progress"] == 0)
