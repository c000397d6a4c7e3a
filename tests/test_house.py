"""The house rules: imports point one way, heavy libraries stay in their rooms, importing is instant."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "workbench"
ORDER = [
    "settings", "files", "places", "images", "store", "upkeep", "networks", "upscalers", "weights", "faces", "denoising",
    "restoration", "stages", "pipeline", "measures", "sharpness", "guards", "fidelity", "scores", "heatmaps", "attacks",
    "lessons", "classics", "trust", "presets", "runs", "report", "specs", "costs", "plans", "grids", "racing", "pareto",
    "strategies",
    "boards", "recording", "engine", "hub", "worker", "cluster", "progress", "winners", "helpers", "sweeps", "detached",
    "walls", "votes", "effects", "plots", "promotion", "challenges", "verdicts", "markup", "page", "sessions",
    "naive", "interrupted", "simulated", "bench_counts", "bench_sweep",
]  # fmt: skip
LAST = {
    "server",
    "notebooks",
    "doctor",
    "terminal",
    "cli_score",
    "cli_report",
    "cli_store",
    "cli_presets",
    "cli_runs",
    "cli",
}
UI = {f"ui/{path.stem}" for path in (PACKAGE / "ui").glob("*.py")}
ROOMS = {
    "torch": {
        "networks",
        "upscalers",
        "weights",
        "faces",
        "denoising",
        "restoration",
        "stages",
        "pipeline",
        "fidelity",
        "naive",
    },
    "diffusers": {"weights", "denoising"},
    "ipywidgets": UI,
    "anywidget": UI,
    "traitlets": UI,
    "papermill": {"notebooks"},
    "fastapi": {"server"},
    "optuna": {"pareto"},
    "ray": {"worker"},
    "typer": {"cli", "cli_report", "cli_score", "cli_store", "cli_presets", "cli_runs", "terminal"},
}


def imports(path: Path) -> set[str]:
    """Every module a file imports, anywhere in it; our own as `.name`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if path.parent != PACKAGE and node.level == 1:  # one widget of another
                found.add(f"ui/{module}")
                continue
            own = node.level >= 1 or module.split(".")[0] == "workbench"
            name = module.removeprefix("workbench").lstrip(".")
            found |= (
                {f".{name}"} if own and name else {f".{a.name}" for a in node.names} if own else {module.split(".")[0]}
            )
    return found


def modules() -> dict[str, Path]:
    """{name: file}, those of `ui/` as "ui/tuner"."""
    widgets = {f"ui/{p.stem}": p for p in (PACKAGE / "ui").glob("*.py") if p.stem != "__init__"}
    return {p.stem: p for p in PACKAGE.glob("*.py") if p.stem != "__init__"} | widgets


def test_every_module_has_its_place() -> None:
    assert {name for name in modules() if not name.startswith("ui/")} == set(ORDER) | LAST


def test_imports_point_one_way() -> None:
    for name, path in modules().items():
        before = set(ORDER[: ORDER.index(name)]) if name in ORDER else set(ORDER)
        allowed = before | (LAST if name.startswith("cli") else {"notebooks"} if name.startswith("ui/") else set())
        own = {module[1:] for module in imports(path) if module.startswith(".")}
        assert own <= allowed, f"{name} imports {own - allowed}"


@pytest.mark.parametrize("library", ROOMS)
def test_libraries_stay_in_their_rooms(library: str) -> None:
    users = {name for name, path in modules().items() if library in imports(path)}
    assert users <= ROOMS[library], f"{library} is imported by {users - ROOMS[library]}"


def test_the_layout_in_the_readme_is_the_real_one() -> None:
    picture = re.search(r"`(settings <- .*?)`", (ROOT / "README.md").read_text(), re.S)
    assert picture
    assert [
        name.strip() for name in re.sub(r"<- \{.*", "", picture[1], flags=re.S).split("<-") if name.strip()
    ] == ORDER


def test_importing_is_instant_and_needs_no_torch() -> None:
    code = (
        "import sys, time; t = time.perf_counter(); import workbench as wb; wb.__all__; s = time.perf_counter() - t;"
        "heavy = {'torch', 'diffusers', 'numpy', 'pandas', 'pydantic'} & set(sys.modules); print(s, heavy)"
    )
    seconds, heavy = min(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split(" ", 1)
        for _ in range(3)
    )
    assert heavy.strip() == "set()"
    assert float(seconds) < 0.3


def test_settings_runs_and_presets_need_no_torch() -> None:
    code = (
        "import sys; import workbench.runs, workbench.presets, workbench.report, workbench.cli;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_no_module_is_too_long() -> None:
    assert {n: lines for n, p in modules().items() if (lines := len(p.read_text().splitlines())) > 450} == {}


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
