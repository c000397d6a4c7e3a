"""A real JupyterLab and a real Chromium. Everything on 127.0.0.1, every folder temporary, one server a session."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import axe_playwright_python
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
SLOW = 120_000  # ms until a kernel that imports torch, or a render on a busy machine, has to show something
# the toolbar says "idle" before there is any kernel: ask the app itself
KERNEL = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in Path(item.path).parts:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)


@dataclass(frozen=True)
class Lab:
    """A JupyterLab server. `root` is its folder; `home` is the WORKBENCH_HOME of its kernels."""

    url: str
    token: str
    root: Path
    home: Path

    def notebook_url(self, name: str, *, reset: bool = True) -> str:
        """`reset` drops any saved workspace, so that no earlier test's tabs come back."""
        return f"{self.url}/lab/tree/{name}?token={self.token}{'&reset' * reset}"

    def write(self, name: str, *cells: str) -> str:
        """A notebook of these code cells in the server's folder; its name."""
        notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.root / name)
        return name

    def copy(self, name: str, **parameters: Any) -> str:
        """A copy of one of our notebooks with other values in its parameters cell; its name.

        Edited there as a person would: nothing is injected.
        """
        notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
        cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
        lines = cell.source.splitlines()
        for key, value in parameters.items():
            (place,) = [i for i, line in enumerate(lines) if line.startswith(f"{key}:")]
            declared, _, comment = lines[place].partition("  #")
            lines[place] = f"{declared.partition(' = ')[0]} = {value!r}  #{comment}"
        cell.source = "\n".join(lines)
        nbformat.write(notebook, self.root / name)
        return name


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("jupyter")
    root = tmp_path_factory.mktemp("checkout") / "notebooks"  # a notebook finds the checkout by this name
    root.mkdir()
    (root.parent / "experiments").mkdir()
    shutil.copy(ROOT / "experiments" / "demo.toml", root.parent / "experiments")
    # the "official Jupyter news" question covers a corner
    folder = home / "settings" / "@jupyterlab" / "apputils-extension"
    folder.mkdir(parents=True)
    settings = {"fetchNews": "false", "checkForUpdates": False}
    (folder / "notification.jupyterlab-settings").write_text(json.dumps(settings))
    token, port = secrets.token_hex(16), _free_port()
    env = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"), "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"), "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"), "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_PLATFORM_DIRS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "WORKBENCH_HOME": str(home / "workbench"),
    }  # fmt: skip
    env.pop("WORKBENCH_WIDGETS", None)
    log = home / "lab.log"
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={root}", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.expose_app_in_browser=True", "--LabApp.collaborative=False",
    ]  # fmt: skip
    with open(log, "wb") as file:
        process = subprocess.Popen(command, env=env, stdout=file, stderr=file, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(f"{url}/api/status?token={token}", process, log)
        yield Lab(url, token, root, home / "workbench")
    finally:
        # the whole group: kernels would stay behind
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"jupyter lab ended with {process.returncode}:\n{log.read_text()[-3000:]}")
        try:
            urllib.request.urlopen(url, timeout=2).read()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(log.read_text()[-3000:])


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs a Chromium: .ci/run installs one")
        pytest.skip("no Chromium on this machine; install it, or name one in CHROMIUM")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of 1280 x 900 px in a context of its own; `page.errors` collects what its scripts raise."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    context.close()


def open_and_run(page: Any, lab: Lab, name: str) -> None:
    """Open a notebook as a person would, and choose Run > Run All Cells."""
    page.goto(lab.notebook_url(name))
    page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=SLOW)
    run_all(page)


def run_all(page: Any) -> None:
    page.wait_for_function(f"() => {KERNEL}?.status === 'idle'", timeout=SLOW)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def restart_kernel(page: Any) -> None:
    page.evaluate(f"() => {KERNEL}.restart()")
    page.wait_for_function(f"() => {KERNEL}?.status === 'idle'", timeout=SLOW)


def in_kernel(page: Any, code: str) -> Any:
    """The value of the Python expression `code` in the notebook's kernel, which has to be JSON."""
    ask = f"import json; print('\\n' + json.dumps({code}))"
    printed = page.evaluate(
        f"""async (code) => {{
            let text = "";
            const future = {KERNEL}.requestExecute({{ code, store_history: false }});
            future.onIOPub = (message) => {{ text += message.content.text ?? message.content.evalue ?? ""; }};
            await future.done;
            return text;
        }}""",
        ask,
    )
    return json.loads(printed.strip().splitlines()[-1])


def save(page: Any) -> None:
    """Save the notebook with its outputs, which a reload would lose."""
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")


def reload(page: Any) -> None:
    page.goto(page.url.replace("?reset", "").replace("&reset", ""))
    page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=SLOW)
    page.wait_for_function(f"() => {KERNEL}?.status === 'idle'", timeout=SLOW)


def output(page: Any, css: str = "", **of: Any) -> Any:
    """In the outputs alone: plain text would also match the notebook's own source."""
    return page.locator(f".jp-OutputArea {css}", **of)


def shot(page: Any, name: str) -> None:
    """A screenshot to look at, where WORKBENCH_SHOTS names a folder."""
    if folder := os.environ.get("WORKBENCH_SHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")


def accessibility(page: Any, css: str) -> list[str]:
    """What axe-core finds wrong below `css`, one line for each element."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("css => axe.run(css)", css)
    assert found["passes"], f"axe looked at nothing: is there a {css}?"
    return [
        f"{problem['id']}: {problem['help']}: {node['html'][:160]}"
        for problem in found["violations"]
        for node in problem["nodes"]
    ]
