"""The commands `workbench models ...`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.hub import LocalHub, serving
from typer.testing import CliRunner, Result

from workbench.cli.commands import app
from workbench.models import models_folder


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["models", *words])


def test_list_says_of_each_weight_whether_it_is_here() -> None:
    folder = models_folder()
    folder.mkdir(parents=True)
    (folder / "codeformer.pth").write_bytes(b"PK")
    (folder / "mine.safetensors").write_bytes(b"")
    found = json.loads(run("list", "--json").output)
    here = {weight["name"] for weight in found["registry"] if weight["path"]}
    assert here == {"codeformer"}
    assert [Path(model["path"]).name for model in found["models"]] == ["mine.safetensors"]
    lines = run("list").output.splitlines()
    assert any(line.startswith("-") and "sdxl-base" in line and "6.94 GB" in line for line in lines)
    assert any(line.startswith("here") and "codeformer" in line for line in lines)
    assert any(line.startswith("no") and "mine.safetensors" in line for line in lines)


def test_show_where_and_licences_of_a_weight_that_is_not_here() -> None:
    shown = run("show", "codeformer").output
    assert "377 MB" in shown
    assert "non-commercial" in shown
    assert "1009e537" in shown
    assert "no; workbench models pull codeformer fetches it" in shown
    assert "workbench models pull codeformer fetches it" in str(run("where", "codeformer").exception)
    assert run("licences", "--for", "recommended").output.splitlines()[-1].startswith("CodeFormer: S-Lab")


def test_verify_says_which_file_is_wrong() -> None:
    (models_folder() / "upscalers").mkdir(parents=True)
    (models_folder() / "upscalers" / "RealESRGAN_x2plus.pth").write_bytes(b"something else")
    result = run("verify")
    assert result.exit_code == 1
    assert "1 of 1 files are missing or wrong (RealESRGAN_x2plus.pth first)" in str(result.exception)
    assert result.output.startswith("wrong")
    missing = run("verify", "sdxl-vae-fp16-fix", "--json")
    assert {check["status"] for check in json.loads(missing.output)} == {"missing"}


def test_pull_plans_fetches_and_says_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    content = b"\x80\x02 weights"
    with serving(LocalHub(files={"/releases/net.pth": content})) as hub:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        address = f"{hub.url}/releases/net.pth"
        plan = json.loads(run("pull", address, "--into", "upscalers", "--plan", "--json").output)
        assert [(piece["how"], piece["source"]) for piece in plan["files"]] == [("fetch", address)]
        assert not models_folder().exists()
        done = json.loads(run("pull", address, "--into", "upscalers", "--json").output)
    assert done["paths"] == [str(models_folder() / "upscalers" / "net.pth")]
    assert Path(done["paths"][0]).read_bytes() == content
    assert address in run("where", done["paths"][0]).output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name what to pull, or --for PRESET, or --from FOLDER"),
        (["--set", "vae=x"], "--set changes the preset of --for"),
        (["--from", "nowhere"], "is no folder"),
        (["--from", "nowhere", "--plan"], "there is no --plan of it"),
        (["sdxl-bas"], "did you mean sdxl-base"),
        (["--for", "few-step", "--set", "model=RealVis"], "pull it by its hub id or its address"),
    ],
)
def test_pull_refuses_in_a_sentence(words: list[str], said: str) -> None:
    result = run("pull", *words)
    assert said in str(result.exception)
    assert result.exit_code == 1  # typer's runner; the command itself ends with the error's own
