"""`make install` by machine: which Python it takes and which build of torch, with a uv that only notes what it is told.

No package is fetched here: that a build is chosen is tested, not that its wheels install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from support.nvidia import fake_nvidia_smi, fake_program

ROOT = Path(__file__).parents[1]
COPIED = ("Makefile", "requirements.lock", "pyproject.toml", "workbench/models/driver.py")
TOOLS = ("make", "sh", "sleep", "touch", "mktemp", "rm", "mkdir", "ln", "cat", "chmod", "echo")

UV = """#!{python}
import sys
from pathlib import Path
words = " ".join(sys.argv[1:])
with open("{checkout}/uv.log", "a") as log:
    print(words, file=log)
if words.startswith("venv"):
    import venv
    venv.create("{checkout}/.venv", with_pip=False)
if words.endswith("-r -"):
    Path("{checkout}/requirements.given").write_text(sys.stdin.read())
    torch = Path("{site}/torch")
    torch.mkdir(parents=True, exist_ok=True)
    torch.joinpath("__init__.py").touch()
    build = "12.6" if "cu126" in words else "13.2"
    torch.joinpath("version.py").write_text(f"cuda: Optional[str] = '{{build}}'\\n")
"""


class Checkout:
    """A copy of what `make install` needs, on a machine that has nothing but a shell and make."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder / "checkout", folder / "bin"
        self.bin.mkdir()
        for name in COPIED:
            self.folder.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        for name in TOOLS:
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.site = self.folder / ".venv/lib" / f"python{sys.version_info.major}.{sys.version_info.minor}/site-packages"

    def with_venv(self) -> Checkout:
        """An environment whose pip installs nothing but the uv that notes."""
        venv.create(self.folder / ".venv", with_pip=False, symlinks=True)
        self.write_pip()
        return self

    def write_pip(self) -> None:
        (self.site / "pip").mkdir(parents=True)
        write = f"p = {str(self.folder / '.venv/bin/uv')!r}\nopen(p, 'w').write({self.uv()!r})\n"
        (self.site / "pip/__main__.py").write_text(f"import os\n{write}os.chmod(p, 0o755)\n")

    def uv(self) -> str:
        return UV.format(python=sys.executable, checkout=self.folder, site=self.site)

    def make(self, *words: str, status: int = 0) -> tuple[str, list[str]]:
        """(what `make install` said, what uv was told in it)."""
        log = self.folder / "uv.log"
        log.write_text("")
        environment = {"PATH": str(self.bin), "HOME": str(self.folder), "TMPDIR": str(self.folder.parent)}
        said = self.folder.parent / "said"
        with open(said, "w") as out:  # no pipe: the sleep beside the dots holds it open for two seconds
            command = [str(self.bin / "make"), "install", *words]
            done = subprocess.run(command, cwd=self.folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
        assert done.returncode == status, said.read_text()
        return said.read_text(), log.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


OURS = "pip install --quiet --no-deps --editable ."


def test_without_a_card_the_lock_is_installed_as_it_is_and_once(checkout: Checkout) -> None:
    said, told = checkout.with_venv().make()
    assert told == ["pip install --quiet -r -", OURS]
    assert (checkout.folder / "requirements.given").read_text() == (ROOT / "requirements.lock").read_text()
    assert "torch:" not in said
    assert checkout.make()[1] == []


def test_an_environment_is_mended_when_a_card_or_a_driver_comes_and_goes(checkout: Checkout) -> None:
    checkout.with_venv().make()
    fake_nvidia_smi(checkout.bin, "550.54.14", "12.4")
    said, told = checkout.make()
    assert "torch: the build cu126 (driver 550 runs CUDA 12 builds, the lock's torch is built for 13)" in said
    assert told == [
        "pip install --quiet --torch-backend cu126 -r pyproject.toml "
        "--reinstall-package torch --reinstall-package torchvision -r -"
    ]
    assert "nvidia-cudnn" not in (checkout.folder / "requirements.given").read_text().replace("#   nvidia-cudnn", "")
    assert checkout.make()[1] == []
    fake_nvidia_smi(checkout.bin, "580.65.06", "13.0")
    said, told = checkout.make()
    assert "torch: the build in the lock (driver 580 runs CUDA 13 builds, as the lock's is)" in said
    assert told == ["pip install --quiet --reinstall-package torch --reinstall-package torchvision -r -"]
    (checkout.bin / "nvidia-smi").unlink()
    assert checkout.make()[1] == []


def test_a_machine_with_an_old_driver_never_fetches_the_locks_build(checkout: Checkout) -> None:
    fake_nvidia_smi(checkout.bin, "550.54.14", "12.4")
    said, told = checkout.with_venv().make()
    assert told == ["pip install --quiet --torch-backend cu126 -r pyproject.toml -r -", OURS]
    assert said.count("torch: the build cu126") == 1


def test_who_names_the_cpu_needs_no_torch_for_the_card(checkout: Checkout) -> None:
    """As where torch's own index, which alone has the builds for older drivers, cannot be reached."""
    fake_nvidia_smi(checkout.bin, "550.54.14", "12.4")
    assert checkout.with_venv().make("WORKBENCH_DEVICE=cpu")[1] == ["pip install --quiet -r -", OURS]
    assert checkout.make("WORKBENCH_DEVICE=cpu")[1] == []
    fake_program(checkout.folder / ".venv/bin/uv", "exit 3")
    assert "to work on the CPU, run make install WORKBENCH_DEVICE=cpu" in checkout.make(status=2)[0]


def test_where_only_a_newer_python_is_uv_brings_another(checkout: Checkout) -> None:
    """uv itself comes into a folder for the moment, which that Python makes."""
    note = checkout.folder.parent / "folder"
    fake_program(
        checkout.bin / "python3.13",
        'test "$2" = venv || exit 1\n'
        f'echo "$3" > {note}\nmkdir -p "$3/bin"\nln -s {checkout.folder.parent}/python "$3/bin/python"',
    )
    fake_program(
        checkout.folder.parent / "python",
        f'cat > "${{0%python}}uv" <<\'END\'\n{checkout.uv()}\nEND\nchmod 755 "${{0%python}}uv"',
    )
    checkout.write_pip()
    said, told = checkout.make()
    assert "No Python 3.11 or 3.12 is here: uv brings 3.12" in said
    assert told == ["venv --quiet --python 3.12 --seed --allow-existing .venv", "pip install --quiet -r -", OURS]
    assert note.read_text() and not os.path.exists(note.read_text().strip())


def test_a_uv_on_the_path_is_taken(checkout: Checkout) -> None:
    (checkout.bin / "uv").write_text(checkout.uv())
    (checkout.bin / "uv").chmod(0o755)
    checkout.write_pip()
    assert checkout.make()[1][0].startswith("venv --quiet --python 3.12")


def test_without_any_python_the_user_is_asked_for_one(checkout: Checkout) -> None:
    said, told = checkout.make(status=2)
    assert "The workbench needs Python 3.11 or 3.12 with venv; name one with: make install PYTHON=..." in said
    assert told == []


def test_an_environment_of_another_python_is_not_written_into(checkout: Checkout) -> None:
    fake_program(checkout.folder / ".venv/bin/python", "exit 1")
    said, told = checkout.make(status=2)
    assert "delete .venv, then run make install" in said and told == []


@pytest.mark.parametrize(
    ("system", "said"),
    [("win32", "this is Windows; use a Linux machine"), ("darwin", "whose GPUs (MPS) are untried")],
)
def test_on_another_system_than_linux_a_sentence_says_so(system: str, said: str) -> None:
    """On Windows it was a ModuleNotFoundError: No module named 'fcntl'."""
    code = f"import sys; sys.platform = {system!r}; import workbench"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("workbench.errors.NotLinux: the workbench runs on Linux only") and said in last
