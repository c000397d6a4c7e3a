"""`workbench generate` with several pictures, and with what other tools have written."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin
from PIL.PngImagePlugin import PngInfo

from workbench.cli import commands as cli
from workbench.errors import NotUnderstood, OutOfMemory
from workbench.files import pixels_sha256
from workbench.presets import Preset, load_preset, presets_folder
from workbench.presets.formats import FORMATS, ExchangeFormat, Exported, Imported
from workbench.recipe import Bench, Result
from workbench.settings import MAX_SEED, Settings
from workbench.store import Store

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """(exit status, stdout, stderr) of a command, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["workbench", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that says a seed and steps, and asks for what there is not: its texts look like "toy 5 12 karras"."""
    monkeypatch.setitem(FORMATS, "toy", Toy())


class Toy(ExchangeFormat):
    name, title, suffix = "toy", "Toy", ".toy"

    def write(self, s: Settings, name: str = "workbench") -> Exported:
        return Exported(
            f"toy {s.seed} {s.steps}\n",
            dict.fromkeys(("prompt", "vae"), "it has no words"),
            ("its seed gives another picture.",),
        )

    def find(self, texts: Mapping[str, str]) -> str | None:
        return texts.get("toy")

    def recognises(self, text: str) -> bool:
        return text.startswith("toy ")

    def read(self, text: str) -> Imported:
        try:
            seed, steps, *more = text.split()[1:]
            s = load_preset("small").settings.replace(seed=int(seed), steps=int(steps))
        except ValueError:
            raise NotUnderstood(f"'{text.strip()}' is no toy.") from None
        unmapped = {f"noise: {more[0]}": "there is no such noise"} if more else {}
        return Imported(
            "Toy", s, {"seed": seed}, {"hires": "the hires fix was guessed to be off."}, unmapped, ("a toy.",)
        )


@pytest.fixture
def small() -> Settings:
    """The embedded model at 64 px."""
    s = load_preset("embedded").settings.replace(width=64, height=64, steps=3, hires=False, restorer="none")
    Preset("small", s).save(presets_folder() / "small.json")
    return s


def test_each_of_several_pictures_is_that_of_its_own_seed(call: Call, small: Settings, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "face-7.png")  # is replaced, as with -o
    status, out, err = call("generate", "-p", "small", "--seed", "6", "-n", "3", "-o", "face.png", "--stages", "--json")
    found = json.loads(out)
    assert status == 0 and [each["picture"] for each in found] == ["face-6.png", "face-7.png", "face-8.png"]
    assert "Traceback" not in err and not (tmp_path / "face.png").exists() and (tmp_path / "face-8-base.png").exists()
    alone = Bench(Store(None))
    for seed, about in zip((6, 7, 8), found, strict=True):
        mine = pixels_sha256(alone.generate(small.replace(seed=seed)).image)
        assert mine == about["pixels_sha256"] == pixels_sha256(Image.open(tmp_path / about["picture"]))
    assert [each["settings"]["seed"] for each in found] == [6, 7, 8]
    status, out, _ = call("generate", "-p", "small", "--seed", "7", "-n", "1", "-o", "face.png", "-q")
    assert status == 0 and out.startswith("face-7.png  (") and out.count("\n") == 1


def test_a_drawn_seed_is_gone_on_from(call: Call, small: Settings) -> None:
    status, out, _ = call("generate", "-p", "small", "--seed", "-1", "-n", "2", "--json", "-q")
    first, second = json.loads(out)
    assert status == 0 and second["settings"]["seed"] == first["settings"]["seed"] + 1 > 0
    assert second["picture"] == f"picture-{second['settings']['seed']}.png"


def test_after_the_largest_seed_comes_0() -> None:
    assert [s.seed for s in Settings(seed=MAX_SEED - 1).in_a_row(4)] == [MAX_SEED - 1, MAX_SEED, 0, 1]


@pytest.mark.parametrize(
    ("n", "said"), [("0", "ask for 1 to 100"), ("1000", "sweep the seeds"), ("-3", "ask for 1 to")]
)
def test_how_many_there_can_be_is_said(call: Call, small: Settings, n: str, said: str) -> None:
    status, out, err = call("generate", "-p", "small", "-n", n)
    assert status == 2 and said in err and "Traceback" not in err and out == ""


def test_what_is_finished_when_one_fails_is_kept_and_said(
    call: Call, small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Bench.generate

    def failing(self: Bench, settings: Settings, *arguments: object) -> Result:
        if settings.seed == 9:
            raise OutOfMemory("out of device memory.")
        return whole(self, settings, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Bench, "generate", failing)
    status, out, err = call("generate", "-p", "small", "--seed", "8", "-n", "3", "--json", "-q")
    assert status == 1 and [each["picture"] for each in json.loads(out)] == ["picture-8.png"]
    assert err == "workbench: out of device memory.\n" and (tmp_path / "picture-8.png").exists()


def test_every_name_is_looked_at_before_the_work(
    call: Call, small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "picture-2.png").mkdir()
    monkeypatch.setattr(Bench, "generate", lambda *_: pytest.fail("worked for nothing"))
    status, _, err = call("generate", "-p", "small", "--seed", "1", "-n", "2", "-q")
    assert status == 1 and "picture-2.png cannot be written" in err


def test_a_picture_of_another_tool_is_made_anew(call: Call, small: Settings, toy: None, tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("toy", "toy 5 2 blue")
    Image.new("RGB", (8, 8)).save(tmp_path / "theirs.png", pnginfo=info)
    status, _, err = call("generate", "--from", "theirs.png", "--strict")
    assert status == 2 and "theirs.png asks for what cannot be made here: noise: blue; leave out --strict" in err
    status, _, err = call("generate", "--from", "theirs.png", "--set", "hires=false", "-q", "-o", "other.png")
    assert status == 0 and "guessed" not in err  # what is given was not guessed
    status, out, err = call("generate", "--from", "theirs.png", "--set", "cfg=2", "--json", "-q")
    made = json.loads(out)["settings"]
    assert status == 0 and (made["seed"], made["steps"], made["base_cfg"]) == (5, 2, 2)
    assert err.splitlines() == [
        "workbench: the hires fix was guessed to be off.",
        "workbench: noise: blue is left out: there is no such noise.",
        "workbench: a toy.",
    ]
    (tmp_path / "text").write_text("toy 6 2")
    assert call("generate", "--from", "text", "--strict", "-q")[0] == 0
    status, _, err = call("generate", "-p", "small", "--strict")
    assert status == 2 and "give --from, too" in err
    status, _, err = call("generate", "--from", "picture.png", "--strict", "-q")
    assert status == 0 and err == ""  # ours


def test_import_says_what_was_read_and_writes_only_what_is_named(
    call: Call, small: Settings, toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.toy").write_text("toy 5 12 blue\n")
    status, out, _ = call("presets", "import", "t.toy")
    assert status == 0 and [line for line in out.splitlines() if not line.startswith("  ")] == [
        "from Toy; --as NAME writes a preset", "settings:", "read from:", "guessed:", "no counterpart:", "note: a toy."
    ]  # fmt: skip
    assert "  noise: blue  there is no such noise" in out and re.search(r"^  steps +12$", out, re.M)
    assert not (presets_folder() / "mine.json").exists()
    status, out, _ = call("presets", "import", "t.toy", "--as", "mine", "--json", "--format", "toy")
    about = json.loads(out)
    assert status == 0 and about["unmapped"] == {"noise: blue": "there is no such noise"} and about["tool"] == "Toy"
    mine = load_preset("mine")
    assert mine.settings.model_dump() == about["settings"] and mine.about == "From t.toy of Toy."
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"\xef\xbb\xbftoy 7 3")))
    assert json.loads(call("presets", "import", "-", "--json")[1])["settings"]["seed"] == 7


@pytest.mark.parametrize(("words", "said"), [
    ("t.toy --as production", "'production' is changed by promotion alone"),
    ("t.toy --as staging", "'staging' is changed by promotion alone"),
    ("t.toy --as embedded", "shipped preset"),
    ("t.toy --as A/b", "cannot be a preset's name"),
    ("t.toy --format nope", "'nope' is no format that is read here"),
    ("odd.toy", "'toy x' is no toy"),
    ("none.png", "there is no picture none.png"),
    ("none.txt", "there is no file none.txt"),
    ("bytes", "neither a PNG, JPEG or WebP picture nor a text"),
    ("long", "more than 1 MiB"),
    ("words", "in no format that is known here"),
    ("empty.png", "carries no settings"),
    ("empty.png --format toy", "leave it out"),
    ("half.png", "cannot be read"),
])  # fmt: skip
def test_what_cannot_be_imported_is_one_sentence(
    call: Call, small: Settings, toy: None, tmp_path: Path, words: str, said: str
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "empty.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "empty.png").read_bytes()[:45])
    for name, data in {"t.toy": b"toy 1 2", "odd.toy": b"toy x", "bytes": b"\xff", "long": b"a" * 2**21}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "words").write_text("a face")
    status, out, err = call("presets", "import", *words.split())
    assert status == 2 and out == "" and said in err and err.count("\n") == 1
    assert [path.name for path in presets_folder().glob("*.json")] == ["small.json"]


def test_export_prints_or_writes_and_says_what_is_lost(call: Call, small: Settings, toy: None, tmp_path: Path) -> None:
    status, out, err = call("presets", "export", "small", "--to", "toy")
    assert (status, out) == (0, "toy 0 3\n")
    assert err.splitlines() == [
        "workbench: prompt, vae cannot be said there: it has no words.", "workbench: its seed gives another picture.",
    ]  # fmt: skip
    assert call("generate", "-p", "small", "--seed", "4", "-q")[0] == 0
    status, out, err = call("presets", "export", "picture.png", "--to", "toy", "-o", "a/b.toy", "--json")
    assert json.loads(out) == {
        "to": "toy", "file": "a/b.toy", "text": "toy 4 3\n", "unmapped": dict.fromkeys(("prompt", "vae"), "it has no words"),
        "notes": ["its seed gives another picture."],
    }  # fmt: skip
    assert err == "" and (tmp_path / "a" / "b.toy").read_text() == "toy 4 3\n"
    for words, said in (("small --to toys", "did you mean 'toy'"), ("nope --to toy", "no preset 'nope'")):
        status, out, err = call("presets", "export", *words.split())
        assert status == 2 and out == "" and said in err


def test_export_of_another_tools_picture_says_what_was_not_read(call: Call, tmp_path: Path) -> None:
    text = "a face\nSteps: 9, Sampler: Euler, Seed: 4, Glow: 7"
    info = PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(tmp_path / "theirs.png", pnginfo=info)
    status, _, err = call("presets", "export", str(tmp_path / "theirs.png"), "--to", "styles")
    assert status == 0 and "Glow: 7 is left out" in err
    notes = json.loads(call("presets", "export", str(tmp_path / "theirs.png"), "--to", "styles", "--json")[1])["notes"]
    assert any("Glow: 7 is left out" in note for note in notes)
