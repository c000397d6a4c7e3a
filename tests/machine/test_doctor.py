"""What `workbench doctor` says of a machine. The trial itself, which computes, is in tests/cli/test_cli.py."""

import hashlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.nvidia import fake_nvidia_smi

from workbench.errors import MissingWeights, PresetNotFound
from workbench.machine import kept_findings, packages, trial, weight_findings
from workbench.machine.card_line import card_finding
from workbench.machine.findings import Finding, found, ok, trouble
from workbench.machine.health import examine
from workbench.machine.kept_findings import kept_or_made
from workbench.machine.packages import package_findings, python_finding
from workbench.machine.reaching import server_finding
from workbench.machine.registry import Weight, WeightFile
from workbench.machine.weight_findings import weights_here, weights_of
from workbench.models import driver
from workbench.presets import Preset, presets_folder
from workbench.recipe import UsedModel
from workbench.settings import Settings


def by_name(lines: Any) -> dict[str, Finding]:
    return {line.what: line for line in lines}


# --- sentences


def test_an_error_is_split_into_what_is_wrong_and_what_to_do() -> None:
    line = trouble("x", "warning", MissingWeights("a.pth is not there: cut; really; put it there."))
    assert (line.said, line.remedy) == ("a.pth is not there: cut; really", "put it there")
    assert trouble("x", "failed", OSError("libcuda\n  is gone")) == Finding("x", "failed", "OSError: libcuda is gone")


def test_whatever_a_look_trips_over_is_a_line() -> None:
    def broken() -> str:
        raise ImportError("libGL.so.1: cannot open shared object file")

    assert found("libraries", "failed", broken).status == "failed"
    assert found("libraries", "failed", lambda: "load") == ok("libraries", "load")


# --- packages


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, list[str]]]:
    """{package: (its version, what it requires)} of a machine on which all is well."""
    there = {
        packages.OWN: ("0.1.0", ["torch>=2.9", "diffusers>=0.40", "scipy<2", "jupyterlab>=4", 'ray>=2.9; extra == "ray"']),
        "torch": ("2.15.0+cu126", []), "torchvision": ("0.29.2", ["torch (==2.15.0)", "numpy"]), "diffusers": ("0.42.1", []),
        "transformers": ("5.1", []), "numpy": ("2.4", []), "scipy": ("1.17", []), "jupyterlab": ("4.4", []),
        "opencv-python-headless": ("5.0", []),
    }  # fmt: skip

    def of(name: str, which: int) -> Any:
        if name not in there:
            raise metadata.PackageNotFoundError(name)
        return there[name][which]

    monkeypatch.setattr(packages, "version", lambda name: of(name, 0))
    monkeypatch.setattr(packages, "requires", lambda name: of(name, 1))
    return there


def test_packages_that_fit_are_one_line(installed: dict[str, Any]) -> None:
    (line,) = package_findings()
    assert line.status == "ok" and line.said.startswith("4 fit together; torch 2.15.0+cu126, torchvision 0.29.2")


@pytest.mark.parametrize(
    ("name", "version", "requires", "status", "said", "remedy"),
    [
        ("diffusers", "0.39.1", [], "failed", "is 0.39.1, and what works is >=0.40", "pip install 'diffusers>=0.40'"),
        ("scipy", "2.0", [], "failed", "is 2.0, and what works is <2", "pip install 'scipy<2'"),
        ("jupyterlab", None, [], "warning", "is not installed", "pip install 'jupyterlab>=4'"),
        ("torch", None, [], "failed", "is not installed", "pip install 'torch>=2.9'"),
        ("torchvision", "0.28", ["torch (==2.14.0)"], "failed", "built for torch==2.14.0, not 2.15", "install it anew"),
        ("xformers", "0.0.3", ["torch (==2.8.0)"], "warning", "built for torch==2.8.0", "pip uninstall xformers"),
        ("opencv-python", "5.0", [], "warning", "one over the other", "then pip install opencv-python-headless"),
    ],
)
def test_combinations_that_are_known_to_fail(
    installed: dict[str, Any], name: str, version: str | None, requires: list[str], status: str, said: str, remedy: str
) -> None:
    if version is None:
        del installed[name]
    else:
        installed[name] = (version, requires)
    (line,) = package_findings()
    assert line.status == status and said in line.said and remedy in line.remedy


def test_a_python_that_basicsr_cannot_be_built_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert python_finding().status == "ok"

    class Newer(tuple[int, ...]):
        major, minor, micro = 3, 13, 0

    monkeypatch.setattr("sys.version_info", Newer((3, 13, 0)))
    assert python_finding().status == "warning" and "basicsr" in python_finding().said


# --- the card


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    driver.driver_report.cache_clear()
    yield
    driver.driver_report.cache_clear()


def test_the_card_its_memory_and_driver(asked: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(tmp_path, driver="580.65.06", cuda="13.0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    said = "NVIDIA H100 80GB HBM3 with 85.5 GB; driver 580.65.06, which runs builds for CUDA 13"
    assert card_finding() == ok("card", said)


def test_a_card_that_does_not_answer(asked: None, monkeypatch: pytest.MonkeyPatch) -> None:
    report = driver.DriverReport(trouble="nvidia-smi did not answer within 30 s; restart the machine")
    monkeypatch.setattr("workbench.machine.card_line.driver_report", lambda: report)
    assert card_finding() == Finding("card", "failed", "nvidia-smi did not answer within 30 s", "restart the machine")


# --- weights


FACES = Weight(
    "faces", "a restorer", (("restorer", "faces"),), "MIT", "faces.pth",
    (WeightFile("faces.pth", 8, hashlib.sha256(b"the face").hexdigest()),), url="http://192.0.2.1/faces.pth",
)  # fmt: skip


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    """A registry of one small weight, which every settings need; where it belongs."""
    monkeypatch.setattr(weight_findings, "REGISTRY", {"faces": FACES})
    monkeypatch.setattr(weight_findings, "needed", lambda s: [FACES])
    monkeypatch.setattr(weight_findings, "weights_for", lambda s: [FACES])
    (home / "models").mkdir(parents=True)
    return home / "models" / "faces.pth"


def test_each_weight_is_here_and_is_what_was_published(registry: Path) -> None:
    s = Settings(model="embedded", restorer="none")

    def lines() -> tuple[Finding, Finding]:
        return by_name(weights_of(s))["weight faces"], by_name(weights_here(s))["weight faces"]

    named, any_other = lines()
    assert (named.status, any_other.status) == ("failed", "warning")
    assert named.remedy == "workbench models pull faces (8 B)" and f"is not in {registry}" in named.said
    registry.write_bytes(b"the fade")
    for line in lines():
        assert line.status == "failed" and "is not what was published" in line.said
        assert line.remedy == "delete that file, then workbench models pull faces"
    registry.write_bytes(b"the face")
    for line in lines():
        assert line == ok("weight faces", f"{registry} is what was published")


def test_a_model_of_ones_own_is_not_called_verified(
    registry: Path, tiny_model: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_findings, "needed", lambda s: [])
    assert "not verified" in by_name(weights_of(tiny))[f"model {tiny_model}"].said
    (registry.parent / "mine").symlink_to(tiny_model)
    assert by_name(weights_here(tiny))["model mine"].status == "ok"
    assert by_name(weights_of(tiny.replace(model="nobody/has-it")))["model nobody/has-it"].status == "failed"
    line = by_name(weights_of(tiny.replace(vae="none-such")))["weights of base"]
    assert line.status == "failed" and "the VAE 'none-such' is not there" in line.said


def test_what_a_preset_needs_is_asked_for(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert by_name(examine("recommended", quick=True))["weight faces"].status == "failed"
    assert by_name(examine(quick=True))["weight faces"].status == "warning"
    with pytest.raises(PresetNotFound):
        examine("nobody", quick=True)


def test_weights_that_are_others_than_a_preset_was_made_with_are_a_warning(home: Path) -> None:
    other = UsedModel(name="embedded", digest="0" * 64)
    Preset("mine", Settings(model="embedded"), models={"model": other}).save(presets_folder() / "mine.json")
    (line,) = [line for line in examine("mine", quick=True) if line.what == "weights"]
    assert line.status == "warning" and "model 'embedded' is another one here" in line.said
    assert "measure anew" in line.remedy and not [
        line for line in examine("embedded", quick=True) if line.what == "weights"
    ]


# --- the trial, kept


def test_a_trial_is_made_again_when_anything_changes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def trial() -> list[Finding]:
        made.append(1)
        return [ok("picture", "in 9 s")]

    kept_or_made(trial)
    said = kept_or_made(trial)
    assert len(made) == 1 and [line.what for line in said] == ["trial", "picture"]
    assert "--anew" in said[0].said and said[1].said == "in 9 s (0 s ago)"
    kept_or_made(trial, anew=True)
    monkeypatch.setenv("WORKBENCH_DEVICE", "cuda")
    kept_or_made(trial)
    assert len(made) == 3
    path = home / "cache" / "doctor.json"
    path.write_text(path.read_text().replace("in 9 s", "in 1 s"))  # damaged, or a lie
    kept_or_made(trial)
    assert len(made) == 4
    later = time.time() + 90_000
    monkeypatch.setattr("time.time", lambda: later)
    kept_or_made(trial)
    assert len(made) == 5


def test_a_trial_that_failed_is_never_kept(home: Path) -> None:
    looks = iter([Finding("picture", "failed", "black"), ok("picture", "in 9 s")])
    kept_or_made(lambda: [next(looks)])
    assert kept_or_made(lambda: [next(looks)]) == [ok("picture", "in 9 s")]


def test_a_package_that_was_installed_anew_is_noticed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    before = [*kept_findings._circumstances()]
    (tmp_path / "torch-9.dist-info").mkdir()
    assert [*kept_findings._circumstances()] != before


# --- the face


@pytest.mark.parametrize(("sharpness", "status"), [(34.3, "ok"), (27.9, "failed"), (None, "failed")])
def test_a_face_is_found_and_sharp_enough(sharpness: float | None, status: str) -> None:
    assert trial._face(sharpness).status == status


# --- disk


@pytest.mark.parametrize(("free", "status"), [(9e9, "ok"), (1e9, "warning"), (1e8, "failed")])
def test_room_on_the_disk(home: Path, monkeypatch: pytest.MonkeyPatch, free: float, status: str) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=int(free), total=10**12, used=0))
    line = by_name(examine(quick=True))["disk"]
    assert line.status == status and (line.remedy == "") == (status == "ok")


# --- the server


class Answers(http.server.BaseHTTPRequestHandler):
    answer: bytes = b""
    code = ready = 200

    def do_GET(self) -> None:
        self.send_response(self.code if self.path == "/health" else self.ready)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    yield f"127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()


HEALTH = {"status": "ok", "preset": "production", "model": "sdxl", "licences": [], "withdrawn": ""}


@pytest.mark.parametrize(
    ("code", "answer", "status", "said"),
    [
        (200, json.dumps(HEALTH), "ok", "ms: preset production of model sdxl"),
        (200, json.dumps({**HEALTH, "withdrawn": "other weights."}), "warning", "but other weights"),
        (404, "{}", "failed", "status 404, and no answer of a workbench"),
        (200, "<html>", "failed", "status 200, and no answer of a workbench"),
        (200, "[]", "failed", "status 200, and no answer of a workbench"),
        (421, '{"error": "this server has another name."}', "failed", "refuses: this server has another name"),
    ],
)
def test_a_server_is_asked_how_it_is(server: str, monkeypatch, code: int, answer: str, status: str, said: str) -> None:
    monkeypatch.setattr(Answers, "code", code)
    monkeypatch.setattr(Answers, "answer", answer.encode())
    for url in (server, f"http://{server}/"):
        line = server_finding(url)
        assert line.status == status and said in line.said


def test_a_server_may_still_be_loading(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "answer", json.dumps({**HEALTH, "waiting": 3}).encode())
    assert server_finding(server).said.endswith("sdxl, 3 requests wait")
    monkeypatch.setattr(Answers, "ready", 503)
    assert server_finding(server).status == "warning"


def test_a_server_that_is_not_there_or_not_asked() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        line = server_finding(f"http://127.0.0.1:{free.getsockname()[1]}")
    assert line.status == "failed" and "does not answer" in line.said and "--host 0.0.0.0" in line.remedy
    assert server_finding(None).said.startswith("not asked") and server_finding("").status == "ok"
    assert server_finding("file:///etc/passwd").said == "file:///etc/passwd is no http address"
    assert server_finding("http://bad host").status == "failed"
