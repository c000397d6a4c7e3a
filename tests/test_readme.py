"""Every command and code block of the README, run as a newcomer would, in its order, on the embedded model."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub import LocalHub, serving
from support.servers import call, free_port, picture_of, wait_for

from workbench.files import pixels_sha256
from workbench.presets import load_preset
from workbench.promotion import latest_sweep
from workbench.runs import find_run
from workbench.store import Store
from workbench.sweeps import last_session, plan

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands() -> list[list[str]]:
    lines = [line.split(" #")[0] for block in blocks("sh") for line in block.splitlines()]
    words = [shlex.split(line) for line in lines if line.startswith("workbench ")]
    return [w[1:] for w in sorted(words, key=lambda w: w[1] == "notebook")]  # the notebook resumes the sweep's run


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout's specs and notebooks in a folder of their own.

    Of each axis of the demo only the ends, of its prompts the first: 8 of its 54 pictures, in a sixth of the time.
    """
    folder = tmp_path_factory.mktemp("newcomer")
    for name in ("experiments/demo.toml", "notebooks/02_sweep.ipynb"):
        (folder / name).parent.mkdir()
        shutil.copy(ROOT / name, folder / name)
    spec = folder / "experiments" / "demo.toml"
    thinned, axes = re.subn(r"^(\w+ = \[[\d.]+), .*, ([\d.]+\])$", r"\1, \2", spec.read_text(), flags=re.M)
    thinned, prompts = re.subn(r"^(prompts = \[\n.*\n)(?: .*\n)+\]", r"\1]", thinned, flags=re.M)
    assert (axes, prompts) == (3, 1)
    spec.write_text(thinned)
    return folder


def test_the_demo_makes_what_the_text_says() -> None:
    said = re.search(
        r"make demo .*: (\d+) portraits, (\d+) strengths x (\d+) CFGs x (\d+) weights x (\d+) prompts", README
    )
    assert said
    spec = tomllib.loads((ROOT / "experiments" / "demo.toml").read_text())
    planned = plan(spec, Store(None))
    found = planned.to_json()
    assert [len(spec["axes"][name]) for name in ("strength", "refine_cfg", "weight")] == [
        int(n) for n in said.groups()[1:4]
    ]
    assert len(spec["prompts"]) == int(said[5]) and len(planned.cells) == int(said[1]) == 54
    assert {stage: found["stages"][stage]["jobs"] for stage in ("base", "refine", "faces")} == {
        "base": 2, "refine": 18, "faces": 54,
    }  # fmt: skip
    assert planned.warnings == []  # no value of it is dead or aliased


def test_the_two_commands_come_first() -> None:
    first_screen = README.splitlines()[:24]
    assert any(line.startswith("make demo") for line in first_screen)
    assert any(line.startswith("make test") for line in first_screen)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_command_works(newcomer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(newcomer / "experiments"))
    theirs = [path for path in os.environ["PYTHONPATH"].split(os.pathsep) if Path(path).name != "left_out"]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(theirs))  # a newcomer has all modules
    for words in commands():
        if words[0] == "serve":
            continue
        done = subprocess.run(
            [sys.executable, "-m", "workbench.cli", *words], cwd=newcomer, capture_output=True, text=True
        )
        proven = (0, 3) if words[0] == "promote" and "--force" not in words else (0,)  # 3: no better, as it may be
        assert done.returncode in proven, f"{words}: {done.stderr[-2000:]}"
        if words[:2] == ["sweep", "experiments/demo.toml"] and "--plan" not in words:
            session = last_session(find_run("latest"))
            assert session["executed"]["stages"] == {"base": 1, "refine": 4, "detail": 0, "faces": 8, "upscale": 0}
            assert session["executed"]["unet_evaluations"] == session["unet_evaluations"]
    run = latest_sweep()
    assert run and run.states() == {"done": 8, "no_face": 0, "failed": 0, "to_do": 0}
    preset = load_preset("production")
    from PIL import Image

    for name in ("face.png", "again.png"):
        assert pixels_sha256(Image.open(newcomer / name)) == preset.evidence["pixels_sha256"]
    report = newcomer / "experiments" / "reports" / "mine.ipynb"
    assert report.stat().st_size < 3e6 and "Error" not in re.sub(r"stderr", "", report.read_text())
    assert report.with_suffix(".html").stat().st_size > 1e5


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh home on a machine that reaches a hub, whose fine-tune is the embedded model's base with its CodeFormer. The
    demo has two cells there."""
    embedded = ROOT / "workbench" / "models" / "embedded"
    found = {path.relative_to(embedded / "base"): path for path in (embedded / "base").rglob("*")}
    found |= {path.relative_to(embedded): path for path in (embedded / "restorer").rglob("*")}
    files = {name.as_posix(): path.read_bytes() for name, path in found.items() if path.is_file()}
    spec = (ROOT / "experiments" / "demo.toml").read_text()
    spec = re.sub(r"^(strength|refine_cfg) = \[([\d.]+), .*\]$", r"\1 = [\2]", spec, flags=re.M)
    spec = re.sub(r"^(weight = \[[\d.]+), .*, ([\d.]+\])$", r"\1, \2", spec, flags=re.M)
    spec = re.sub(r"^(prompts = \[\n.*\n)(?: .*\n)+\]", r"\1]", spec, flags=re.M)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "demo.toml").write_text(spec)
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "experiments"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with serving(LocalHub(repos={"SG161222/RealVisXL_V5.0": files})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield tmp_path


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_road_of_a_rented_card(card: Path) -> None:
    """With small weights, so at the small size: the preset `embedded` takes the place of `same-checkpoint`, and no CodeFormer
    is pulled, whose real file only its makers have."""
    (road,) = re.findall(r"<!-- the road: .*? -->\n```text\n(.*?)```", README, re.S)
    lines = [shlex.split(line.split("  #")[0]) for line in road.splitlines()]
    commands = [words[1:] for words in lines if words[0] == "workbench"]
    assert [words[0] for words in commands] == ["disk", "models", "doctor", "generate", "sweep", "promote", "serve"]
    for words in commands[1:-1]:
        typed = [w.replace("same-checkpoint", "embedded") for w in words if w != "codeformer"]
        if words[0] == "promote":
            typed += ["--force", "the road, tested"]  # a duel of 24 portraits takes hours here
        done = subprocess.run([sys.executable, "-m", "workbench.cli", *typed], cwd=card, capture_output=True, text=True)
        assert done.returncode == 0, f"{typed}: {done.stdout[-1000:]} {done.stderr[-2000:]}"
    preset = load_preset("production")
    assert preset.settings.model == "RealVisXL_V5.0"
    port = free_port()
    server = subprocess.Popen([sys.executable, "-m", "workbench.cli", *commands[-1], "--port", str(port)], cwd=card)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        asked = urllib.parse.urlencode({"prompt": preset.settings.prompt, "seed": preset.settings.seed})
        _, answer = call(f"http://127.0.0.1:{port}/generate?{asked}", "POST", timeout=600)
        assert pixels_sha256(picture_of(answer)) == preset.evidence["pixels_sha256"]
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.slow
def test_the_benchmark_commands_work() -> None:
    lines = [line.split(" #")[0] for block in blocks("sh") for line in block.splitlines()]
    found = [re.fullmatch(r"make bench-(\w+)(?: ARGS=(.+))?", line.strip()) for line in lines if "make bench" in line]
    assert found and all(found)
    for match in filter(None, found):
        words = shlex.split(match[2] or "")
        command = [sys.executable, "-m", "experiments.benchmarks", match[1], *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)  # what the Makefile runs
        assert done.returncode == 0 and done.stdout, done.stderr[-2000:]


@pytest.mark.slow
def test_the_python_block_works(tmp_path: Path) -> None:
    (code,) = blocks("python")
    check = (
        "\nassert result.counters['unet_evaluations'] == {'base': 0, 'refine': 0, 'detail': 0}\n"
        "assert result.counters['stages'] == {'base': 0, 'refine': 0, 'detail': 0, 'faces': 1, 'upscale': 0}\n"
    )
    subprocess.run([sys.executable, "-c", code + check], cwd=tmp_path, check=True)


def test_the_spec_block_costs_what_the_text_says() -> None:
    (toml,) = blocks("toml")
    stages = plan(tomllib.loads(toml)).to_json()["stages"]
    said = re.search(r"these (\d+) pictures take (\d+) base runs, (\d+) refinements and (\d+) restorations", README)
    assert said
    assert [int(n) for n in said.groups()] == [27, *(stages[s]["jobs"] for s in ("base", "refine", "faces"))]
