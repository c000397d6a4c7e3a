"""The script that `presets export --to script` writes makes the very pixels of `generate`, by diffusers alone."""

from __future__ import annotations

import ast
import random
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.scripts import imports_of, run_script

from workbench.errors import NotUnderstood
from workbench.files import pixels_sha256
from workbench.models import model_path
from workbench.presets import list_presets
from workbench.presets.formats import export_settings, read_text
from workbench.presets.formats.script_literals import python, python_words
from workbench.recipe import Bench
from workbench.settings import Settings
from workbench.store import Store

LONG = (
    "portrait photo of Grace Hopper, (sharp focus:1.3), [dull] ((light))",
    "in the style of an old photograph, " * 12,
)


@pytest.mark.slow
def test_it_makes_the_pixels_of_generate(small: Settings, tmp_path: Path) -> None:
    """By the script's own reading of prompts. A script with a refiner is in `test_same_pixels`."""
    s = small.replace(
        refiner="base", prompt=LONG[0], negative_prompt=LONG[1], clip_skip=1, hires_prompt="(old:1.2) BREAK face",
        hires_sampler="Euler", strength_steps="fixed",
    )  # fmt: skip
    done = run_script(export_settings(s, "script"), tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert pixels_sha256(Image.open(tmp_path / "theirs.png")) == pixels_sha256(Bench(Store(None)).generate(s).image)


def test_it_reads_like_a_script_that_somebody_wrote(small: Settings, tmp_path: Path) -> None:
    both = small.replace(prompt=LONG[0], refiner="base", sampler="Euler", schedule="AYS", loras="a:0.5, b:-1", steps=7)
    for number, s in enumerate((small, both, small.replace(hires=False), *(each.settings for each in list_presets()))):
        text = export_settings(s, "script", f"p{number}").text
        (tmp_path / f"p{number}.py").write_text(text)
        assert (
            "import workbench" not in text and str(Path.home()) not in text and str(model_path("embedded")) not in text
        )
        named = [name for module, name in imports_of(text) if module == "diffusers"]
        assert all(text.count(name) > 1 for name in named)
    for tidy in (["format", "--check", "--line-length", "88"], ["check", "--select", "E4,E7,E9,F,I"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *tidy, "--isolated", str(tmp_path)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def test_what_is_no_pipelines_is_left_out_by_name(small: Settings) -> None:
    s = small.replace(
        restorer="codeformer", detail=True, upscaler="realesr-animevideov3", resampler="realesrgan-x4plus"
    )
    found = export_settings(s, "script")
    assert set(found.unmapped) == {"detail", "restorer", "upscaler", "resampler"}
    (left_out,) = re.findall(r"^LEFT_OUT = (\[.*?\n\])", found.text, re.M | re.S)
    assert ast.literal_eval(left_out) == [*found.unmapped.values()] and "Resampling.LANCZOS" in found.text
    assert (
        export_settings(small, "script").unmapped == {} and "\nLEFT_OUT = []\n" in export_settings(small, "script").text
    )


def test_a_model_that_is_elsewhere_is_not_checked_and_that_is_said(small: Settings) -> None:
    found = export_settings(small.replace(model="/somewhere/Mine.safetensors", vae="my-vae", refiner="other"), "script")
    assert (
        'NAMES = {"model": "Mine", "refiner": "other", "vae": "my-vae"}' in found.text
        and "/somewhere" not in found.text
    )
    assert 'FILES = {"model": {}, "refiner": {}, "vae": {}}' in found.text
    assert len(found.notes) == 2 and "the model Mine is not on this machine" in found.notes[0]


def test_a_drawn_seed_is_written_down(small: Settings) -> None:
    found = export_settings(small.replace(seed=-1), "script")
    assert re.search(r"^SEED = \d+$", found.text, re.M) and "drawn" in found.notes[0]


def test_other_weights_and_none_are_one_sentence(small: Settings, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(export_settings(small, "script").text)
    script, place = runpy.run_path(str(tmp_path / "script.py")), model_path("embedded")
    files = script["FILES"]["model"]
    script["check"](place, files)
    with pytest.raises(SystemExit, match=r"has the sha256 [0-9a-f]{16}, not 0000: its pictures are others"):
        script["check"](place, {**files, "base/vae/diffusion_pytorch_model.safetensors": "0000"})
    with pytest.raises(SystemExit, match="name where the weights lie"):
        script["check"](tmp_path, files)


def test_it_is_not_read(small: Settings) -> None:
    with pytest.raises(NotUnderstood, match="in no format"):
        read_text(export_settings(small, "script").text)


def test_every_text_comes_back_from_its_literal() -> None:
    """A prompt must not become code."""
    draw = random.Random(1)
    for _ in range(500):
        letters = draw.choice(("\"\\'{}% ab\n#", "".join(map(chr, range(128))), "é \u2028\u3000\U0001f600\x85, a"))
        text = "".join(draw.choices(letters, k=draw.randrange(40)))
        long = " ".join([text, *["many words of a prompt"] * draw.randrange(12), text])
        sections = [[(text, draw.uniform(-9, 9)), (long, 1.0)], [], [(long, 1e-9)]]
        for value in (text, long):
            assert ast.literal_eval(python_words(value)) == value == ast.literal_eval(python(value))
        assert ast.literal_eval(python(sections)) == sections
        assert ast.literal_eval(python({text: sections, "": {}})) == {text: sections, "": {}}


def test_a_prompt_cannot_become_code(small: Settings) -> None:
    prompt = 'a"""\n\\" + str(1 / 0) + "{{ s }} {% raw %}'
    text = export_settings(small.replace(prompt=prompt, prompt_syntax="plain"), "script", 'x"""; 1 / 0').text
    (value,) = [
        n.value for n in ast.parse(text).body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "PROMPT"
    ]
    assert ast.literal_eval(value) == prompt and not [n for n in ast.parse(text).body if isinstance(n, ast.Expr)][1:]
