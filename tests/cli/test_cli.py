"""The command line as scripts meet it: exit status, one sentence on stderr, JSON on stdout."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from workbench.cli import commands as cli
from workbench.errors import UsageError
from workbench.presets import Preset, presets_folder
from workbench.settings import Settings


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workbench.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})})


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The command line in this process: (exit status, stdout, stderr). torch is imported once, not per call."""
    monkeypatch.chdir(tmp_path)

    def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["workbench", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def preset(tiny: Settings, home: Path) -> str:
    Preset("tiny", tiny).save(presets_folder() / "tiny.json")
    return "tiny"


COMMANDS = [
    "generate", "sweep", "score", "promote", "serve", "disk", "doctor", "bench", "models list", "models show", "models pull",
    "models verify", "models where", "models licences", "runs list", "runs show", "runs table", "runs watch", "runs stop",
    "runs export", "runs import", "store stats", "store prune", "store verify", "presets list", "presets show",
    "presets diff", "presets history", "presets rollback", "presets export", "presets import", "notebook run",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_json(command: str) -> None:
    result = CliRunner().invoke(cli.app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f"Example: workbench {command}" in re.sub(r"\s+", " ", result.output)
    assert "--json" in result.output


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("generate --preset nope", 2, "no preset 'nope'"),
        ("generate", 2, "promote a sweep first"),
        ("generate --preset embedded --set strenght=1", 2, "did you mean 'strength'"),
        ("generate --preset embedded --set strength=2", 2, "from 0 to 1"),
        ("generate --preset embedded --set strength=oops", 2, "not a number"),
        ("generate --preset embedded --set strength", 2, "not NAME=VALUE"),
        ("generate --preset embedded --seed -5", 2, "seed = -5"),
        ("generate --preset embedded -o a.jpg", 2, "only PNG"),
        ("generate --preset recommended", 1, "models/sdxl. It may be one .safetensors file, or a folder"),
        ("generate --preset embedded --from a.png", 2, "give one of them"),
        ("generate --from none.png", 2, "no picture none.png"),
        ("generate --bogus", 2, "No such option"),
        ("sweep none.toml", 2, "no spec none.toml"),
        ("score none.png", 2, "no picture none.png"),
        ("runs show latest", 2, "no runs are named 'latest'"),
        ("runs table x", 2, "none yet"),
        ("promote latest", 2, "no runs"),
        ("presets show nope", 2, "there are embedded"),
        ("presets diff recommended nope", 2, "no preset 'nope'"),
        ("presets rollback", 2, "nothing to roll back to"),
        ("presets history A", 2, "cannot be a preset's name"),
        ("notebook run 03_scores -p strenght=1", 2, "has no parameter 'strenght'"),
        ("notebook run 03_scores -p seed=-7", 2, "seed = -7 is not allowed"),
        ("serve --preset nope", 2, "no preset"),
        ("serve --preset recommended", 1, "the model 'sdxl' is not there"),
        ("notebook run nope", 2, "no notebook 'nope'"),
        ("nonsense", 2, "No such command"),
    ],
)
def test_errors_are_one_sentence(here, capsys, words: str, status: int, said: str) -> None:
    got, _, err = here(capsys, *words.split())
    assert got == status and said in err and "Traceback" not in err
    lines = [line for line in err.splitlines() if not line.endswith(" ...")]  # signs of life
    if lines[0].startswith("workbench:"):
        assert len(lines) == 1


@pytest.mark.parametrize(
    "words",
    [
        "generate --preset tiny -o {}", "score {picture} --heatmap {}", "report latest -o {}",
        "notebook run 02_sweep -o {}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["", "below/a.png"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(
    here, capsys, preset: str, tmp_path: Path, monkeypatch, words: str, where: str, hopper: Image.Image
) -> None:
    from support.runs import scored

    from workbench.recipe import Bench

    scored()
    hopper.save(tmp_path / "hopper.png")
    blocked = tmp_path / "blocked.png"
    if where:
        blocked.write_text("")
    else:
        blocked.mkdir()
    monkeypatch.setattr(Bench, "generate", lambda *_: pytest.fail("worked for nothing"))
    monkeypatch.setattr("workbench.scores.score_many", lambda *_, **__: pytest.fail("worked for nothing"))
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("worked for nothing"))
    line = words.format(blocked / where if where else blocked, picture=tmp_path / "hopper.png").split()
    status, _, err = here(capsys, *line)
    said = [sentence for sentence in err.splitlines() if "workbench: " in sentence][-1]
    assert status == 1 and f"{blocked / where if where else blocked} cannot be written" in said


def test_a_prompt_that_is_not_utf8(preset: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workbench.cli", "generate", "--preset", "tiny", "--prompt", b"caf\xe9", "-q"],
        cwd=tmp_path, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 2 and b"the byte 0xe9 at place 4" in done.stderr and b"Traceback" not in done.stderr


def test_a_terminal_of_ascii(preset: str, tmp_path: Path) -> None:
    done = run("score", str(tmp_path / "é.png"), env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2 and "\\xe9.png" in done.stderr and "Traceback" not in done.stderr


def test_json_on_a_terminal_of_ascii_is_json(tiny: Settings) -> None:
    """`\\xe9` is no escape of JSON's."""
    Preset("tiny", tiny.replace(prompt="é")).save(presets_folder() / "tiny.json")
    done = run("presets", "show", "tiny", "--json", env={"PYTHONIOENCODING": "ascii"})
    assert json.loads(done.stdout)["settings"]["prompt"] == "é"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "budget=--5"], "budget = '--5' is not allowed; it must be a whole number from 1"),
        (["--set", "budget=" + "9" * 5000], "budget = '999"),
        (["--set", "name=caf\udce9"], "name holds the byte 0xe9 at place 4"),
        (["--set", "seeds=[-1]", "--set", "name=caf\udce9"], "name holds the byte 0xe9 at place 4"),
        (["--set", "name=a\0b"], "name holds the character '\\x00' at place 2"),
    ],
)
def test_odd_entries_of_a_spec_are_one_sentence(
    here, capsys, preset: str, tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "s.toml").write_text('preset = "tiny"\n')
    status, _, err = here(capsys, "sweep", "s.toml", "--plan", "-q", *words)
    assert status == 2 and said in err and "Traceback" not in err


def test_numbers_of_a_spec_in_any_spelling(here, capsys, preset: str, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('preset = "tiny"\n')
    status, out, _ = here(capsys, "sweep", "s.toml", "--plan", "-q", "--json", "--set", "seeds=+2")
    assert status == 0 and json.loads(out)["cells"] == 2


def test_pictures_beside_the_named_one_are_looked_at_before_the_work(
    here, capsys, preset: str, tmp_path: Path, monkeypatch, hopper: Image.Image
) -> None:
    from workbench.recipe import Bench

    monkeypatch.setattr(Bench, "generate", lambda *_: pytest.fail("worked for nothing"))
    monkeypatch.setattr("workbench.scores.score_many", lambda *_, **__: pytest.fail("worked for nothing"))
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("worked for nothing"))
    for name in ("a", "b"):
        hopper.save(tmp_path / f"{name}.png")
    for name, line in {
        "out-refine.png": "generate --preset tiny --stages -o out.png -q",
        "seen-b.png": "score a.png b.png --heatmap seen.png",
        "n.html": "notebook run 02_sweep -o n.ipynb",
    }.items():
        (tmp_path / name).mkdir()
        status, _, err = here(capsys, *line.split())
        assert status == 1 and f"{name} cannot be written" in err


def test_a_parameter_that_no_notebook_can_hold(here, capsys, tmp_path: Path) -> None:
    """papermill died while it wrote the notebook."""
    status, _, err = here(capsys, "notebook", "run", "02_sweep", "-p", "spec=caf\udce9.toml", "-o", "n.ipynb")
    assert status == 2 and "spec holds the byte 0xe9 at place 4" in err and not (tmp_path / "n.ipynb").exists()
    status, _, err = here(capsys, "notebook", "run", "02_sweep", "-o", "caf\udce9.ipynb")
    assert status == 2 and "the notebook's path holds the byte 0xe9 at place 4" in err


def test_doctor_says_that_the_home_cannot_be_written(here, capsys, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    status, out, err = here(capsys, "doctor", "--quick", "-q")
    assert status == 1 and re.search(r"failed   home: .*file/home cannot be written.*\n +-> .*WORKBENCH_HOME", out)
    assert err == "workbench: home failed; what to do is said above.\n"


def test_a_wrong_preset_version(here, capsys, preset: str) -> None:
    path = presets_folder() / "tiny.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 9'))
    status, _, err = here(capsys, "generate", "--preset", "tiny")
    assert status == 2 and "preset version 9" in err


def test_debug_shows_the_traceback(preset: str) -> None:
    done = run("runs", "show", "latest", "--debug")
    assert done.returncode == 1 and "Traceback" in done.stderr and "RunNotFound" in done.stderr


def test_generate_and_generate_from(here, capsys, preset: str, tmp_path: Path) -> None:
    status, out, _ = here(
        capsys, "generate", "-p", preset, "--seed", "5", "--set", "cfg=3", "-o", "a.png", "--json", "-q"
    )
    first = json.loads(out)
    assert status == 0 and first["settings"]["seed"] == 5 and first["settings"]["refine_cfg"] == 3
    assert first["counters"]["unet_evaluations"] == {"base": 4, "refine": 4, "detail": 0}
    status, out, _ = here(capsys, "generate", "--from", "a.png", "-o", "b.png", "--json", "--quiet", "--stages")
    again = json.loads(out)
    assert again["pixels_sha256"] == first["pixels_sha256"] and again["counters"]["stages"]["base"] == 0
    assert {p.name for p in tmp_path.glob("b*.png")} == {"b.png", "b-base.png", "b-refine.png"}


@pytest.mark.slow
def test_generate_from_reproduces_without_the_store(here, capsys, preset: str, tmp_path: Path) -> None:
    status, first, err = here(capsys, "generate", "-p", preset, "-o", str(tmp_path / "a.png"), "--json")
    assert status == 0 and "Traceback" not in err
    words = ("generate", "--from", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "--json", "-q")
    again = run(*words, env={"WORKBENCH_HOME": str(tmp_path / "elsewhere")})
    assert again.stderr == ""
    result = json.loads(again.stdout)
    assert result["pixels_sha256"] == json.loads(first)["pixels_sha256"]
    assert result["counters"]["stages"]["base"] == 1  # really made again


def test_sweep_plan_run_table(here, capsys, preset: str, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('preset = "tiny"\nseeds = [1, 2]\n[axes]\nstrength = [0.3, 0.4]\n')
    status, out, _ = here(capsys, "sweep", "s.toml", "--plan", "--json")
    plan = json.loads(out)
    assert status == 0 and {"cells", "stages", "unet_evaluations", "warnings"} <= set(plan)
    assert plan["stages"]["base"]["jobs"] == 2 and plan["unet_evaluations"] == {"base": 8, "refine": 14, "detail": 0}
    assert not (tmp_path / "home" / "runs").exists()
    status, out, _ = here(capsys, "sweep", "s.toml", "--json", "-q")
    session = json.loads(out)
    assert status == 0 and session["executed"]["unet_evaluations"] == {"base": 8, "refine": 14, "detail": 0}
    status, out, _ = here(capsys, "runs", "table", "latest", "--json")
    records = json.loads(out)
    assert len(records) == 4 and {"settings", "status", "scores", "pixels_sha256"} <= set(records[0])
    status, out, _ = here(capsys, "runs", "show", session["run"], "--json")
    assert json.loads(out)["states"]["no_face"] == 4
    status, out, _ = here(capsys, "runs", "list")
    assert status == 0 and "no_face 4" in out
    status, _, err = here(capsys, "promote", "latest")
    assert status == 2 and "no setting of" in err
    status, out, _ = here(
        capsys, "sweep", "s.toml", "--plan", "--set", "strength=[0.3, 0.4, 0.5]", "--set", "seeds=[1]"
    )
    assert status == 0 and out.startswith("3 cells")
    assert here(capsys, "sweep", "s.toml", "--plan", "--set", "strength=[0.3")[0] == 2


def test_score(here, capsys, astronaut, tmp_path: Path) -> None:
    astronaut.save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_text("no picture")
    status, out, err = here(capsys, "score", "a.png", "bad.png", "--json")
    rows = json.loads(out)
    assert status == 2 and [row["status"] for row in rows] == ["ok", "unreadable"] and "bad.png" in err
    assert 0 < rows[0]["sharpness"] <= 100
    status, out, _ = here(capsys, "score", "a.png")
    assert status == 0 and "sharpness" in out and "flag: small (eye_distance 42" in out and "eyes" in out


def test_score_heatmap(here, capsys, astronaut, hopper, tmp_path: Path) -> None:
    astronaut.save(tmp_path / "a.png")
    hopper.save(tmp_path / "h.jpg")
    assert here(capsys, "score", "a.png", "--heatmap", "out.png")[0] == 0
    assert Image.open(tmp_path / "out.png").size[0] > 1000
    status, out, _ = here(capsys, "score", "a.png", "h.jpg", "--heatmap", "out.png", "--json")
    assert [row["heatmap"] for row in json.loads(out)] == ["out-a.png", "out-h.png"] and (
        tmp_path / "out-h.png"
    ).exists()
    (tmp_path / "b").mkdir()
    astronaut.save(tmp_path / "b" / "a.png")
    status, _, err = here(capsys, "score", "a.png", "b/a.png", "--heatmap", "out.png")
    assert status == 2 and "same name" in err
    status, _, err = here(capsys, "score", "a.png", "--heatmap", "out.jpg")
    assert status == 2 and ".png" in err


def test_score_with_the_first_picture(here, capsys, hopper, tmp_path: Path) -> None:
    hopper.save(tmp_path / "h.png")
    assert "deformed: not measured" in here(capsys, "score", "h.png")[1]
    status, out, _ = here(capsys, "score", "h.png", "--reference", "h.png", "--json")
    assert status == 0 and json.loads(out)[0]["faces"][0]["guards"]["deformed"] == pytest.approx(0, abs=1e-5)
    for more in (["h.png"], ["--device", "cuda"]):
        status, _, err = here(capsys, "score", "h.png", "--reference", "h.png", *more)
        assert status == 2 and "--reference" in err


@pytest.mark.parametrize(("device", "word"), [("gpu", "no device"), ("cuda:99", "GPU")])
def test_score_on_a_device_that_is_not_there(here, capsys, astronaut, tmp_path: Path, device: str, word: str) -> None:
    astronaut.save(tmp_path / "a.png")
    status, _, err = here(capsys, "score", "a.png", "--device", device)
    assert status == 2 and word in err and "cpu" in err and err.count("\n") == 1


def test_score_says_why_there_is_none(here, capsys, hopper, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "none.png")
    hopper.rotate(180).save(tmp_path / "turned.png")
    status, out, _ = here(capsys, "score", "none.png", "turned.png")
    assert status == 0 and "no face, not measured" in out and "turn the picture" in out


def test_the_benchmarks_say_where_they_went(here, capsys) -> None:
    for words, which in ((["bench", "score", "a.png", "--quick"], "score"), (["bench", "sweep"], "sweep")):
        status, _, err = here(capsys, *words)
        assert status == 2 and f"run make bench-{which}" in err


def test_presets_show_says_the_licence(here, capsys) -> None:
    status, out, _ = here(capsys, "presets", "show", "recommended")
    assert status == 0 and "non-commercial" in out and "strength = 0.35" in out


def test_doctor(here, capsys, monkeypatch: pytest.MonkeyPatch, tiny: Settings) -> None:
    """The picture is made by a smaller model, in half a second."""
    from workbench.machine import kept_findings, trial

    monkeypatch.setattr(
        kept_findings, "_circumstances", lambda: []
    )  # cv2 and setuptools change them when they are imported
    monkeypatch.setattr(trial, "load_preset", lambda name: Preset("tiny", tiny))
    monkeypatch.setattr(trial, "STEPS", 4)
    monkeypatch.setattr(trial, "_face", lambda sharpness: trial.ok("face", f"{sharpness}"))
    status, out, _ = here(capsys, "doctor", "--json")
    lines = {f["what"]: f for f in json.loads(out)}
    assert status == 0 and {f["status"] for f in lines.values()} <= {"ok", "warning"}
    assert {"python", "packages", "home", "disk", "device", "libraries", "picture", "face", "server"} <= {*lines}
    assert lines["weight codeformer"]["remedy"].startswith("workbench models pull codeformer")
    assert re.search(
        r"128 x 128 px by the embedded model in .* s with loading \(base .* s, refine", lines["picture"]["said"]
    )
    assert any("non-commercial" in f["said"] for f in json.loads(out))
    assert "of 0 s ago" in here(capsys, "doctor")[1]


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(here, capsys, preset: str, home: Path, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('preset = "tiny"\nseeds = [1, 2, 3, 4]\n[fixed]\nsteps = 40\n')
    command = [sys.executable, "-m", "workbench.cli", "sweep", str(tmp_path / "s.toml")]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a test run in the background of a script ignores SIGINT, and its children would inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not list((home / "store").rglob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "the same command goes on from there" in err and "Traceback" not in err
    said = here(capsys, "sweep", str(tmp_path / "s.toml"), "--json", "-q", "--then", "echo $WORKBENCH_STATUS")
    done = json.loads(said[1])
    assert "now: echo $WORKBENCH_STATUS\ndone\n" in said[2]
    assert (
        0 < done["stages"]["base"]["done"] < 4
        and done["executed"]["stages"]["base"] == 4 - done["stages"]["base"]["done"]
    )


def test_models_are_shown_and_listed(home: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from workbench.cli.models import models_list, models_show

    models_list()
    assert "sdxl-base" in capsys.readouterr().out  # which can be pulled
    shutil.copytree(tiny_model, home / "models" / "mine")
    (home / "models" / "old.ckpt").write_bytes(b"PK\x03\x04")
    models_list()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if "mine" in line or "old.ckpt" in line] == [
        ["ok", "mine"],
        ["no", "old.ckpt"],
    ]
    models_show("mine")
    said = capsys.readouterr().out
    assert "usable   yes" in said and f"refiner  {home / 'models' / 'mine' / 'refiner'}" in said
    models_show("old.ckpt", as_json=True)
    about = json.loads(capsys.readouterr().out)
    assert about["usable"] is False and "pickle" in about["reason"] and about["licence"].startswith("old.ckpt: ")


@pytest.mark.parametrize("command", ["generate", "sweep spec.toml", "serve", "challenge latest", "promote latest"])
def test_a_limit_of_memory_that_is_no_size_starts_nothing(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_MAX_MEMORY", "4GiB")  # so that what the option sets ends with the test
    result = CliRunner().invoke(cli.app, [*command.split(), "--max-memory", "plenty"])
    assert isinstance(result.exception, UsageError) and "'plenty' is not a size" in str(result.exception)
    monkeypatch.setenv("WORKBENCH_MAX_MEMORY", "some")
    assert "'some' is not a size" in str(CliRunner().invoke(cli.app, command.split()).exception)
