"""The house rules that no tool knows: names, exports, what importing costs. The layers are `lint-imports`' (`make check`)."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import workbench as wb

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "workbench"
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists())


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_few_doors_into_the_package() -> None:
    entries = [p for p in PACKAGE.iterdir() if p.name != "__pycache__"]
    assert len({p.stem for p in entries}) <= 20, sorted(p.name for p in entries)  # a stub is its module's
    assert sum(p.suffix == ".py" for p in entries) <= 5


def test_every_room_says_what_it_is_for() -> None:
    for room in ROOMS:
        words = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())) or ""
        assert len(words.splitlines()) >= 3, f"workbench/{room}/__init__.py"


def test_the_readme_has_every_room() -> None:
    layout = (ROOT / "README.md").read_text().partition("## The house")[2]
    assert re.findall(r"^\| `(\w+)/` \|", layout, re.M) == layers()[::-1][1:]


def layers() -> list[str]:
    """The rooms as the linter has them, highest first."""
    listed = re.search(r"^layers = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.S | re.M)
    assert listed
    return re.findall(r'"(\w+)"', listed[1])


def test_rooms_are_entered_by_their_door() -> None:
    """`from workbench.runs import Run`, never `from workbench.runs.run import Run`."""
    found = []
    for path in FILES:
        own = module(path).split(".")[1:2]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("workbench."):
                parts = str(node.module).split(".")[1:]
                inner = len(parts) > 1 and not (PACKAGE.joinpath(*parts) / "__init__.py").exists()
                if inner and parts[:1] != own:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.module}")
    assert found == []


def test_no_file_bears_the_name_of_a_public_function() -> None:
    """Importing workbench.x.score would put the module where the function was looked up."""
    functions = {name for name in wb.__all__ if inspect.isfunction(getattr(wb, name))}
    assert functions & {part for path in FILES for part in module(path).split(".")} == set()


def test_no_two_classes_share_a_name() -> None:
    names = [n.name for p in FILES for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.ClassDef)]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_public_names_stay_what_they_are_whatever_is_imported() -> None:
    modules = [module(path) for path in FILES if path.stem != "__main__"]
    said = run(
        "import ast, importlib, types, workbench as wb\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "rooms = [wb, *(importlib.import_module(f'workbench.{room}') for room in " + repr(ROOMS) + ")]\n"
        "for room in rooms:\n"
        "    names = getattr(room, '__all__', [])\n"
        "    once, twice = ({name: getattr(room, name) for name in names} for _ in range(2))\n"
        "    assert all(once[name] is twice[name] for name in names), room\n"
        "    stub = ast.parse(open(room.__file__ + 'i').read()).body if names else []\n"
        "    meant = {a.name for n in stub if isinstance(n, ast.ImportFrom) and not n.module for a in n.names}\n"
        "    assert {n for n in names if isinstance(twice[n], types.ModuleType)} == meant, room\n"
        "print(len(wb.__all__))"
    )
    assert int(said) == len(wb.__all__) >= 25


def test_importing_is_instant_and_needs_no_torch() -> None:
    code = (
        "import sys, time; t = time.perf_counter(); import workbench as wb; wb.__all__; s = time.perf_counter() - t;"
        "heavy = {'torch', 'diffusers', 'numpy', 'pandas', 'pydantic'} & set(sys.modules); print(s, heavy)"
    )
    seconds, heavy = min(run(code).split(" ", 1) for _ in range(3))
    assert heavy.strip() == "set()"
    assert float(seconds) < 0.3


@pytest.mark.parametrize(
    "room", ["settings", "files", "store", "presets", "evidence", "runs", "analysis", "report", "cli.commands"]
)
def test_rooms_that_compute_nothing_need_no_torch(room: str) -> None:
    code = (
        f"import sys, workbench.{room} as room; [getattr(room, name) for name in getattr(room, '__all__', [])];"
        "from workbench.settings import Settings, knobs; knobs(); Settings(); "
        "print('torch' in sys.modules)"
    )
    assert run(code).strip() == "False"


def test_no_file_is_too_long() -> None:
    assert {str(p): lines for p in FILES if (lines := len(p.read_text().splitlines())) > 450} == {}


def test_top_level_is_what_the_user_fixed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    top = {name.split("/")[0] for name in listed if not name.startswith(".")}
    allowed = {"notebooks", "workbench", "experiments", "tests", "pyproject.toml", "README.md"}
    assert top <= allowed | {"Makefile", "requirements.lock", "LICENSE", "CHANGELOG.md"}


def test_repository_names_no_registry_and_no_machine() -> None:
    patterns = ["pypi" + r"\.org", "python" + "hosted", r"/ro" + "ot/", r"/wo" + "rk/", r"index" + "-url http"]
    found = subprocess.run(
        ["git", "grep", "-nIE", "|".join(patterns), "--", ":!LICENSE"], cwd=ROOT, capture_output=True, text=True
    )
    assert found.stdout == ""
