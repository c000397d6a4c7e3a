"""`workbench disk` on trees built here: what is known is proposed, and nothing else is ever touched."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.disks import MAIN, OLD, aged, gone, hub_repo, pip_cache, program, snapshot, uv_cache, write
from support.stores import age, key, keys_in, noise

from workbench.cli import commands as cli
from workbench.errors import PresetNotFound
from workbench.machine import DiskItem, DiskLook, free, look_at_disk, propose
from workbench.machine.disk import caches, in_use, looking
from workbench.machine.disk.items import Again
from workbench.presets import Preset
from workbench.settings import Settings
from workbench.store import Store

Call = Callable[..., tuple[int, str, str]]
VARIABLES = (
    "XDG_CACHE_HOME", "PIP_CACHE_DIR", "UV_CACHE_DIR", "UV_LINK_MODE", "HF_HOME", "HF_HUB_CACHE", "HF_XET_CACHE",
    "HUGGINGFACE_HUB_CACHE", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH", "CONDA_EXE",
    "CONDA_PKGS_DIRS", "WORKBENCH_STORE", "WORKBENCH_STORE_LIMIT",
)  # fmt: skip


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a user on a machine that is no larger than this test's folder."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name in ("user", "tmp", "bin", "apt"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(caches, "APT", tmp_path / "apt")
    monkeypatch.setattr(looking, "disk_top", lambda path: tmp_path)
    real = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: real(path) and not str(path).startswith("/opt/conda"))
    return tmp_path / "user"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in this process: (exit status, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["workbench", "disk", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def busy() -> Iterator[Callable[[Path], subprocess.Popen[bytes]]]:
    """A process that has a file open."""
    started = []

    def hold(path: Path) -> subprocess.Popen[bytes]:
        code = "import sys; f = open(sys.argv[1], 'rb'); print('open', flush=True); sys.stdin.read()"
        words = [sys.executable, "-S", "-c", code, str(path)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout and process.stdout.readline() == b"open\n"
        started.append(process)
        return process

    yield hold
    for process in started:
        process.communicate()


def row(look: DiskLook, what: str) -> DiskItem:
    return next(item for item in look.items if item.what == what)


def rows(look: DiskLook) -> set[str]:
    return {item.what for item in look.items}


def freed(tmp_path: Path, wanted: int | None = None) -> set[str]:
    """Files that are gone, relative to the test's folder, after freeing so much."""
    before = snapshot(tmp_path)
    free(propose(look_at_disk(unknown=False), wanted))
    return {os.path.relpath(path, tmp_path) for path in gone(before, snapshot(tmp_path))}


def relative(tmp_path: Path, paths: list[Path]) -> set[str]:
    return {os.path.relpath(path, tmp_path) for path in paths}


def everything(user: Path, home: Path) -> dict[str, list[Path]]:
    """One of each thing that is safe to free: {what: its files}."""
    hub = user / ".cache" / "huggingface" / "hub"
    unused = hub_repo(hub, "some/unused", {MAIN: {"model.safetensors": 90}}, {"main": MAIN})
    store = Store(home / "store")
    for number in range(3):
        store.put(key(number), noise(number, seconds=number + 1), {"stage": "base"})
    age(home / "store", 3600)
    temporary = user.parent / "tmp" / "pip-install-abcd1234" / "torch" / "setup.py"
    aged(write(temporary, 40_000).parent.parent, 3)
    return {
        "pip downloads": pip_cache(user / ".cache" / "pip"),
        "uv cache": uv_cache(user / ".cache" / "uv"),
        "apt packages": [write(user.parent / "apt" / "libc6_2.36_amd64.deb", 5000)],
        "pip's leftovers": [temporary],
        "broken-off downloads": [write(unused / "blobs" / f"{'d' * 64}.incomplete", 30_000)],
        "some/unused": [path for path in unused.rglob("*") if not path.is_dir() and path.suffix != ".incomplete"],
        "store": sorted((home / "store").glob("??/*")),
    }


def test_looking_says_what_there_is_and_changes_nothing(user: Path, home: Path, tmp_path: Path, call: Call) -> None:
    made = everything(user, home)
    write(user / "thesis" / "draft.bin", 3_000_000)
    before = snapshot(tmp_path)
    status, out, _ = call("--json")
    found = json.loads(out)
    assert status == 0 and {item["what"] for item in found["items"] if item["safe"]} == set(made)
    assert {item["what"]: item["again"] for item in found["items"]}["some/unused"] == "weights"
    assert found["others"][str(user / "thesis")] >= 3_000_000
    assert found["safe"] == sum(item["free"] for item in found["items"])
    assert gone(before, snapshot(tmp_path)) == set()


def test_freeing_all_removes_each_known_thing_and_nothing_else(user: Path, home: Path, tmp_path: Path) -> None:
    made = everything(user, home)
    write(user / "thesis" / "draft.bin")
    write(home / "runs" / "a-run" / "run.json")
    write(home / "models" / "sdxl.safetensors")
    assert freed(tmp_path) == relative(tmp_path, [path for paths in made.values() for path in paths])
    assert (user / ".cache" / "pip").is_dir() and not (user / ".cache" / "pip" / "http-v2").exists()


def test_what_costs_least_to_have_again_goes_first(user: Path, home: Path) -> None:
    everything(user, home)
    look = look_at_disk(unknown=False)
    sizes = {item.what: item.free for item in look.items}
    rubbish = sizes["pip's leftovers"] + sizes["broken-off downloads"]
    packages = sizes["pip downloads"] + sizes["uv cache"] + sizes["apt packages"]

    def chosen(wanted: int) -> set[str]:
        proposal = propose(look, wanted)
        assert proposal.enough and proposal.bytes >= wanted
        return {item.what for item, _ in proposal.parts}

    assert chosen(1) == {"broken-off downloads"}  # the smaller of the two is enough
    assert chosen(rubbish + 1) == {"pip's leftovers", "broken-off downloads", "apt packages"}
    assert "store" not in chosen(rubbish + packages)
    assert "some/unused" not in chosen(rubbish + packages + sizes["store"] - 100)
    assert "some/unused" in chosen(look.safe)
    assert not propose(look, look.safe + 1).enough


def items(*sizes: tuple[int, Again]) -> DiskLook:
    def take(wanted: int, tick: object) -> None:
        raise AssertionError

    made = [DiskItem(str(n), "", size, size, "", again, take) for n, (size, again) in enumerate(sizes)]  # type: ignore[arg-type]
    return DiskLook("/", 0, 0, made)


def test_the_set_has_as_few_bytes_over_as_can_be_and_drops_what_a_larger_part_makes_superfluous() -> None:
    few = items(*((size, Again.PACKAGES) for size in (50, 30, 21, 9)))
    assert {item.free for item, _ in propose(few, 51).parts} == {30, 21}
    two = items((20, Again.PACKAGES), (30, Again.PACKAGES), (70, Again.WEIGHTS))
    assert [size for _, size in propose(two, 60).parts] == [70]
    many = items(*((size, Again.PACKAGES) for size in range(1, 31)))
    assert 100 <= propose(many, 100).bytes <= 115


def test_the_store_is_made_smaller_by_as_much_as_is_missing_and_keeps_what_a_sweep_works_with(home: Path) -> None:
    store = Store(home / "store")
    for number in range(4):
        store.put(key(number), noise(number, seconds=number + 1), {"stage": "base"})
    age(home / "store", 3600)
    with store.keeping([key(0)]):
        look = look_at_disk(unknown=False)
        assert "keeps 1" in row(look, "store").why and row(look, "store").free < row(look, "store").bytes
        done = free(propose(look, 1))
        assert keys_in(home / "store") == {key(0), key(2), key(3)} and done.bytes > 1  # the cheapest that may go
        free(propose(look_at_disk(unknown=False), None))
        assert keys_in(home / "store") == {key(0)}


def test_a_link_in_the_place_of_a_cache_is_said_and_not_followed(user: Path, tmp_path: Path) -> None:
    (user / ".cache").mkdir()
    hub_repo(tmp_path / "elsewhere" / "hub", "a/b", {MAIN: {"x": 5}}, {"main": MAIN})
    for name, real in {"pip": "pip", "uv": "uv", "huggingface": "elsewhere"}.items():
        (user / ".cache" / name).symlink_to(tmp_path / real)
    pip_cache(tmp_path / "pip")
    uv_cache(tmp_path / "uv")
    look = look_at_disk(unknown=False)
    for what in ("pip downloads", "uv cache", "Hugging Face cache"):
        assert "no link is followed" in row(look, what).why and not row(look, what).safe
    assert freed(tmp_path) == set()


def test_a_link_in_the_place_of_a_repository_of_the_hub_is_not_followed(user: Path, tmp_path: Path) -> None:
    hub = user / ".cache" / "huggingface" / "hub"
    repo = hub_repo(tmp_path / "elsewhere", "a/b", {MAIN: {"x": 5}, OLD: {"x": 6}}, {"main": MAIN})
    hub.mkdir(parents=True)
    (hub / repo.name).symlink_to(repo)
    assert "no link is followed" in row(look_at_disk(unknown=False), "a/b").why
    assert freed(tmp_path) == set()


def test_links_that_lead_out_of_a_cache_go_and_what_they_point_to_stays(user: Path, tmp_path: Path) -> None:
    folder = write(user / "thesis" / "draft.txt").parent
    link = user / ".cache" / "uv" / "archive-v0" / ("x" * 20 + "0") / "out"
    uv_cache(user / ".cache" / "uv")
    link.symlink_to(folder)
    hub = user / ".cache" / "huggingface" / "hub"
    repo = hub_repo(hub, "a/b", {MAIN: {"x": 5}}, {"main": MAIN})
    mine = repo / "snapshots" / MAIN / "mine"
    mine.symlink_to(folder / "draft.txt")
    assert {os.path.relpath(link, tmp_path)} < freed(tmp_path)
    assert not os.path.lexists(link) and (folder / "draft.txt").exists()
    assert [path for path in repo.rglob("*") if not path.is_dir()] == [mine]  # no link of the hub's, but its user's


def test_a_file_of_ones_own_in_a_snapshot_of_the_hub_stays(user: Path, tmp_path: Path) -> None:
    repo = hub_repo(user / ".cache" / "huggingface" / "hub", "a/b", {MAIN: {"x": 5}, OLD: {"x": 6}}, {"main": MAIN})
    mine = {write(repo / "snapshots" / commit / "my-lora.safetensors") for commit in (MAIN, OLD)}
    mine |= {write(repo / "blobs" / "notes.txt"), write(repo / "notes.txt")}
    free(propose(look_at_disk(unknown=False), None))
    assert {path for path in repo.rglob("*") if not path.is_dir()} == mine


@pytest.mark.parametrize("after", range(1, 12))
def test_an_interruption_leaves_nothing_that_looks_whole_and_is_not(after: int, user: Path) -> None:
    uv, hub = user / ".cache" / "uv", user / ".cache" / "huggingface" / "hub"
    modules = {path.parents[1].name[-1]: path for path in uv_cache(uv) if path.suffix == ".so"}
    repo = hub_repo(hub, "a/b", {MAIN: {"x": 50, "vae/y": 9}}, {"main": MAIN})
    calls = iter(range(1, 100))

    def interrupt(count: int) -> None:
        if next(calls) == after:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        free(propose(look_at_disk(unknown=False), None), interrupt)
    assert all(modules[path.parent.name[-1]].exists() for path in (uv / "wheels-v8").rglob("*.msgpack"))
    assert all(path.exists() for path in repo.rglob("*"))  # no link to a blob that is gone
    free(propose(look_at_disk(unknown=False), None))
    left = {path for folder in (uv, hub) for path in folder.rglob("*") if path.is_file()}
    assert left == {uv / ".lock", uv / "CACHEDIR.TAG"}  # a second time all of it goes


def test_pipes_and_sockets_in_a_cache_stay_and_do_not_hang(user: Path, tmp_path: Path) -> None:
    uv = user / ".cache" / "uv"
    made = uv_cache(uv)
    os.mkfifo(made[0].with_name("pipe"))
    free(propose(look_at_disk(unknown=False), None))
    assert made[0].with_name("pipe").exists() and not made[0].exists()


def test_foreign_files_in_a_known_folder_stay(user: Path, tmp_path: Path) -> None:
    pip, uv, apt = user / ".cache" / "pip", user / ".cache" / "uv", tmp_path / "apt"
    made = [*pip_cache(pip), *uv_cache(uv), write(apt / "a_1_all.deb")]
    mine = [
        *(
            write(pip / name)
            for name in ("notes.txt", "http-v2/thesis.txt", "http-v2/0/thesis.txt", "wheels/thesis.txt")
        ),
        *(
            write(path)
            for path in (uv / "thesis" / "a", uv / "notes", apt / "notes", apt / "lock2", apt / "sub" / "b.deb")
        ),
    ]
    (pip / "http-v2" / "empty").mkdir()
    assert freed(tmp_path) == relative(tmp_path, made)
    assert all(path.exists() for path in mine) and (pip / "http-v2" / "empty").is_dir()


def test_a_folder_that_only_has_the_name_of_a_cache_is_not_known(user: Path, tmp_path: Path) -> None:
    for path in (".cache/pip/http/report.pdf", ".cache/uv/archive-v0/abc/x.so", ".cache/huggingface/hub/models/x"):
        write(user / path)
    write(tmp_path / "tmp" / "pip-my-thesis" / "draft.txt")
    assert not [item for item in look_at_disk(unknown=False).items if item.safe]
    assert freed(tmp_path) == set()


def test_only_old_leftovers_in_the_temporary_folder_go(user: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    old = aged(write(temporary / "pip-unpack-abcd1234" / "torch.whl").parent, 3) / "torch.whl"
    young = write(temporary / "pip-unpack-abcd1235" / "torch.whl", days=0.1)
    mixed = [write(temporary / "pip-build-env-abcd1236" / "a", days=d) for d in (5, 0.1)]
    other = write(temporary / "pytest-of-me" / "x")
    (temporary / "pip-install-abcd1237").symlink_to(other.parent)
    for folder in (young.parent, mixed[0].parent, other.parent):
        aged(folder, 3)
    assert freed(tmp_path) == relative(tmp_path, [old])


def test_what_a_process_has_open_stays(
    user: Path, tmp_path: Path, busy: Callable[[Path], subprocess.Popen[bytes]]
) -> None:
    files = pip_cache(user / ".cache" / "pip")
    uv_cache(user / ".cache" / "uv")
    repo = hub_repo(user / ".cache" / "huggingface" / "hub", "a/b", {MAIN: {"x": 5}}, {"main": MAIN})
    held = [busy(files[0]), busy(user / ".cache" / "uv" / ".lock"), busy(repo / "snapshots" / MAIN / "x")]
    look = look_at_disk(unknown=False)
    for what, process in zip(("pip downloads", "uv cache", "a/b"), held, strict=True):
        assert f"in use by process {process.pid}" in row(look, what).why
    assert freed(tmp_path) == set()


def test_what_a_process_opens_while_its_user_is_asked_stays(
    user: Path, busy: Callable[[Path], subprocess.Popen[bytes]]
) -> None:
    files = pip_cache(user / ".cache" / "pip")
    proposal = propose(look_at_disk(unknown=False), None)
    busy(files[0])
    done = free(proposal)
    assert (done.files, done.bytes, done.left) == (0, 0, len(files)) and all(path.exists() for path in files)


def test_what_is_replaced_or_gone_between_looking_and_freeing_stays(user: Path, tmp_path: Path) -> None:
    pip = user / ".cache" / "pip"
    files = pip_cache(pip, files=6)
    mine = write(user / "thesis" / files[3].name, days=9)
    proposal = propose(look_at_disk(unknown=False), None)
    files[0].unlink()
    files[1].unlink()
    files[1].symlink_to(mine)  # a link instead of a file
    files[2].write_bytes(b"new")  # another content
    shutil.rmtree(files[4].parent)
    files[4].parent.symlink_to(mine.parent)  # a link instead of a folder
    new = write(files[6].parent / ("e" * 56))  # a file that was not looked at
    before = snapshot(tmp_path)
    done = free(proposal)
    lost = {Path(path) for path in gone(before, snapshot(tmp_path))}
    assert lost == set(files) - {*files[:3], files[4], files[5]} and mine.exists() and new.exists()
    assert (done.files, done.left) == (len(lost), 3)  # the link, the changed file, the new one


def test_a_cache_that_becomes_a_link_between_looking_and_freeing_stays(user: Path, tmp_path: Path) -> None:
    pip = user / ".cache" / "pip"
    pip_cache(pip)
    for place in (pip, pip.parent):  # the cache itself, and a folder above it
        proposal = propose(look_at_disk(unknown=False), None)
        place.rename(tmp_path / "moved")
        place.symlink_to(tmp_path / "moved")
        before = snapshot(tmp_path)
        assert free(proposal).files == 0
        assert gone(before, snapshot(tmp_path)) == set()
        place.unlink()
        (tmp_path / "moved").rename(place)


def test_names_that_are_no_text_are_removed_whole_and_shown_on_one_line(user: Path, tmp_path: Path, call: Call) -> None:
    uv = user / ".cache" / "uv"
    uv_cache(uv)
    for name in (b"new\nline", b"caf\xe9", b"\x1b[31mred", b"-rf *", b"$(touch x)"):
        path = os.path.join(os.fsencode(uv), b"archive-v0", b"x" * 20 + b"0", name)
        with open(path, "wb") as file:
            file.write(b"x" * 5000)
    odd = os.fsencode(user) + b"/odd\n\xe9"
    os.mkdir(odd)
    with open(odd + b"/big", "wb") as file:
        file.write(bytes(2_000_000))
    status, out, _ = call()
    assert status == 0 and "~/odd\\n\\udce9" in out and "\x1b" not in out
    json.loads(call("--json")[1])
    free(propose(look_at_disk(unknown=False), None))
    assert not (uv / "archive-v0").exists() and os.path.exists(odd + b"/big")


def test_hard_links_elsewhere_count_for_nothing(user: Path, tmp_path: Path) -> None:
    made = uv_cache(user / ".cache" / "uv", archives=2, size=400_000)
    (user / "venv").mkdir()
    os.link(made[0], user / "venv" / "module.so")
    os.link(made[2], made[2].with_name("again.so"))  # both names are in the cache, so that both go
    item = row(look_at_disk(unknown=False), "uv cache")
    assert 400_000 <= item.free < 450_000 < 800_000 <= item.bytes and "hard links" in item.why
    done = free(propose(look_at_disk(unknown=False), None))
    assert done.bytes == item.free and (user / "venv" / "module.so").stat().st_size == 400_000


def test_environments_that_uv_keeps_in_its_cache_stay_and_links_into_it_keep_all(
    user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = user / ".cache" / "uv"
    made = uv_cache(uv)
    (uv / "environments-v2" / "tool").mkdir(parents=True)
    (uv / "environments-v2" / "tool" / "abc").symlink_to(made[0].parents[1])
    monkeypatch.setenv("UV_LINK_MODE", "symlink")
    assert freed(tmp_path) == set() and "broken" in row(look_at_disk(unknown=False), "uv cache").why
    monkeypatch.delenv("UV_LINK_MODE")
    assert freed(tmp_path) == relative(tmp_path, made[1:])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_folders_that_cannot_be_read_are_counted(user: Path) -> None:
    folder = write(user / "secret" / "x").parent
    folder.chmod(0)
    try:
        assert look_at_disk().unreadable == 1
    finally:
        folder.chmod(0o755)


def test_a_folder_that_cannot_be_listed_or_changed_stays(
    user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "apt" / "a_1_all.deb", 5000)
    locked = write(user / "locked" / "x").parent
    scandir, access = os.scandir, os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path / "apt") and access(path, mode))

    def refusing(path: str) -> object:
        if str(path) == str(locked):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    look = look_at_disk()
    assert look.unreadable == 1 and "as root" in row(look, "apt packages").why
    assert free(propose(look, None)).files == 0


def test_of_two_revisions_that_share_blobs_only_what_the_old_one_has_alone_goes(user: Path, tmp_path: Path) -> None:
    hub = user / ".cache" / "huggingface" / "hub"
    repo = hub_repo(
        hub, "maker/sdxl", {MAIN: {"unet": 50, "vae/x": 20}, OLD: {"unet": 50, "vae/x": 30}}, {"main": MAIN}
    )
    mine = Preset("mine", Settings(model="maker/sdxl"))
    mine.save(Path(os.environ["WORKBENCH_HOME"]) / "presets" / "mine.json")
    look = look_at_disk(unknown=False)
    assert (
        row(look, "maker/sdxl").why == "revision aaaaaaaa (main), kept: preset mine needs it"
        and not row(look, "maker/sdxl").safe
    )
    assert row(look, "maker/sdxl, old").again == Again.NOTHING and 30_000 <= row(look, "maker/sdxl, old").free < 45_000
    assert len(freed(tmp_path)) == 3  # two links of the old revision, one blob
    assert (repo / "snapshots" / MAIN / "unet").stat().st_size == 50_000
    assert (repo / "snapshots" / MAIN / "vae" / "x").stat().st_size == 20_000
    assert not (repo / "snapshots" / OLD).exists() and (repo / "refs" / "main").read_text() == MAIN


def test_a_repository_that_no_preset_needs_goes_last_and_whole(user: Path, tmp_path: Path) -> None:
    repo = hub_repo(
        user / ".cache" / "huggingface" / "hub",
        "a/b",
        {MAIN: {"x": 50, "y": 5}, OLD: {"x": 50, "y": 7}},
        {"main": MAIN},
    )
    look = look_at_disk(unknown=False)
    old, whole = row(look, "a/b, old"), row(look, "a/b")
    assert propose(look, 1).parts == [(old, old.free)] and whole.again == Again.WEIGHTS
    assert propose(look, old.free + 1).fetched_again == whole.free
    done = free(propose(look, None))
    assert not repo.exists() and done.bytes == old.free + whole.free == look.safe and done.left == 0


def test_the_only_revision_is_wanted_even_if_nothing_refers_to_it(user: Path) -> None:
    hub_repo(user / ".cache" / "huggingface" / "hub", "a/b", {OLD: {"x": 50}}, {})
    assert row(look_at_disk(unknown=False), "a/b").again == Again.WEIGHTS


def test_a_chosen_preset_and_a_link_among_the_models_keep_what_they_lead_to(
    user: Path, home: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("a/linked", "b/chosen", "c/free"):
        hub_repo(tmp_path / "hf" / "hub", name, {MAIN: {"x": 50}, OLD: {"x": 60}}, {"main": MAIN})
    (home / "models").mkdir(parents=True)
    (home / "models" / "sdxl").symlink_to(tmp_path / "hf" / "hub" / "models--a--linked" / "snapshots" / OLD)
    Preset("mine", Settings(model="b/chosen")).save(tmp_path / "mine.json")
    status, out, _ = call("--json", "--preset", str(tmp_path / "mine.json"))
    safe = {item["what"] for item in json.loads(out)["items"] if item["safe"]}
    assert status == 0 and safe == {"a/linked", "b/chosen, old", "c/free", "c/free, old"}
    assert json.loads(out)["needs"][0]["name"] == "b/chosen"
    look_at_disk(unknown=False)
    free(propose(look_at_disk(unknown=False), None))
    assert (home / "models" / "sdxl" / "x").stat().st_size == 60_000
    assert not (tmp_path / "hf" / "hub" / "models--a--linked" / "snapshots" / MAIN).exists()


def test_downloads_that_may_still_run_stay(user: Path, tmp_path: Path) -> None:
    hub = user / ".cache" / "huggingface" / "hub"
    write(hub / "models--a--b" / "blobs" / f"{'d' * 64}.incomplete", 90_000, days=0.01)
    (hub / "models--a--b" / "snapshots").mkdir()
    look = look_at_disk(unknown=False)
    assert "may be running" in row(look, "broken-off downloads").why and freed(tmp_path) == set()


def test_docker_is_shown_with_what_to_type_and_never_called_to_remove(user: Path, tmp_path: Path) -> None:
    said = '{"Type":"Images","Size":"4.5GB"}\\n{"Type":"Build Cache","Size":"12kB"}\\nnoise'
    program(tmp_path / "bin", "docker", f"echo \"$@\" >> {tmp_path}/asked\nprintf '{said}'")
    look = look_at_disk(unknown=False)
    assert row(look, "docker images").bytes == 4_500_000_000 and "docker image prune" in row(look, "docker images").why
    free(propose(look, None))
    assert (tmp_path / "asked").read_text() == "system df --format json\n"
    program(tmp_path / "bin", "docker", "exit 1")
    assert "does not answer" in row(look_at_disk(unknown=False), "docker").why


def test_conda_removes_its_own_archives_or_is_named(user: Path, tmp_path: Path) -> None:
    packages = user / "miniconda3" / "pkgs"
    archives = [write(packages / "torch-2.9.conda", 50_000), write(packages / "old.tar.bz2", 9000)]
    others = [write(packages / "urls.txt"), write(packages / "torch-2.9" / "lib.so")]
    assert "to be freed by you" in row(look_at_disk(unknown=False), "conda archives").why
    script = f'echo "$@" >> {tmp_path}/asked; for f in "$CONDA_PKGS_DIRS"/*.conda; do /bin/rm "$f"; done'
    program(tmp_path / "bin", "conda", script)
    done = free(propose(look_at_disk(unknown=False), None))
    assert (tmp_path / "asked").read_text() == "clean --tarballs --yes\n"
    assert 50_000 <= done.bytes < 60_000 and done.left == 1  # what conda really did, not what was asked of it
    assert not archives[0].exists() and all(path.exists() for path in (archives[1], *others))


@pytest.mark.parametrize("number", range(10))
def test_in_random_trees_nothing_outside_the_proposed_set_changes(
    number: int, user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty trees each: known and foreign files, links out and hard links, in the caches and beside them."""
    monkeypatch.setattr(in_use, "PROC", tmp_path / "none")  # looking through all processes would take most of the time
    for tree in range(20):
        dice = random.Random(1000 * number + tree)
        place = user / ".cache"
        known = [*pip_cache(place / "pip", dice.randint(0, 4)), *uv_cache(place / "uv", dice.randint(0, 3))]
        folders = [place, *(p for p in place.rglob("*") if p.is_dir()), tmp_path / "apt", tmp_path / "tmp"]
        foreign = []
        for each in range(dice.randint(0, 12)):
            folder, name = (
                dice.choice(folders),
                dice.choice(["a.deb", "x\ny", "é", "http", "wheels-v8", "notes.txt", "b" * 56]),
            )
            path = folder / f"{each}{name}"
            kind = dice.choice(["file", "link", "hard", "folder"])
            if kind == "file":
                write(path)
            elif kind == "link":
                path.symlink_to(dice.choice([user, tmp_path, *known]))
            elif kind == "hard" and known:
                os.link(dice.choice(known), path)
            else:
                path.mkdir()
                write(path / "inner" / "x")
            foreign.append(path)
        inside = tuple(str(place / "uv" / each) for each in ("archive-v0/", "wheels-v8/"))
        debs = {
            str(p) for p in (tmp_path / "apt").iterdir() if p.suffix == ".deb" and p.is_file() and not p.is_symlink()
        }
        before = snapshot(tmp_path)
        look = look_at_disk(unknown=False)
        proposal = propose(look, dice.choice([None, 1, 5000, 20_000, 10**9]))
        chosen = {item.what for item, _ in proposal.parts}
        free(proposal)
        allowed = {str(p) for p in known if ("uv cache" if "/uv/" in str(p) else "pip downloads") in chosen}
        allowed |= debs if "apt packages" in chosen else set()
        lost = gone(before, snapshot(tmp_path))
        assert {p for p in lost if not ("uv cache" in chosen and p.startswith(inside))} <= allowed
        assert allowed <= lost
        shutil.rmtree(place)
        for folder in (tmp_path / "apt", tmp_path / "tmp"):
            shutil.rmtree(folder)
            folder.mkdir()


def test_without_a_terminal_and_yes_nothing_is_freed(user: Path, home: Path, tmp_path: Path, call: Call) -> None:
    everything(user, home)
    before = snapshot(tmp_path)
    status, out, err = call("--free", "20kB")
    assert status == 2 and "broken-off downloads" in out and "add --yes" in err
    status, out, err = call("--free", "20kB", "--json")
    assert status == 2 and json.loads(out)["proposed"] >= 20_000 and "nothing was freed" in err
    assert gone(before, snapshot(tmp_path)) == set()


def test_at_a_terminal_it_asks_and_takes_no_for_an_answer(
    user: Path, home: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything(user, home)
    before, answers = snapshot(tmp_path), iter((False, True))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda text, default: next(answers))
    status, out, err = call("--free", "all")
    assert (status, err) == (1, "workbench: nothing was freed, as you said.\n") and "to be fetched again" in out
    assert gone(before, snapshot(tmp_path)) == set()
    status, out, _ = call("--free", "all")
    assert status == 0 and "freed" in out and not (user / ".cache" / "pip" / "http-v2").exists()


def test_what_is_not_enough_frees_nothing_and_says_how_much_there_is(
    user: Path, home: Path, tmp_path: Path, call: Call
) -> None:
    pip_cache(user / ".cache" / "pip")
    before = snapshot(tmp_path)
    status, _, err = call("--free", "20GB", "--yes")
    assert status == 1 and "can be freed safely, not 20 GB, so nothing was freed" in err and "--free all" in err
    assert gone(before, snapshot(tmp_path)) == set()
    status, out, _ = call("--free", "all", "--yes", "--json")
    assert status == 0 and json.loads(out)["freed"] == json.loads(out)["proposed"] > 0
    assert call("--free", "all", "--yes")[2].startswith("workbench: nothing here is safe to free")


def test_wrong_words_are_refused_before_anything_is_looked_at(call: Call) -> None:
    assert call("--free", "much")[0] == 2
    assert call("--preset", "nosuch")[0] == PresetNotFound.exit_code


def test_what_lies_on_another_disk_is_shown_but_frees_nothing_here(user: Path) -> None:
    pip_cache(user / ".cache" / "pip")
    device = os.stat(user).st_dev
    item = row(look_at_disk(unknown=False), "pip downloads")
    assert looking._on(item, device).safe
    other = looking._on(item, device + 1)
    assert not other.safe and "another disk" in other.why
