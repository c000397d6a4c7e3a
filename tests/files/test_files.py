import errno
import fcntl
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from workbench.errors import CannotWrite, DiskFull, StillWritten
from workbench.files import (
    LineReader,
    append_line,
    check_writable,
    checksum_holds,
    file_sha256,
    hash_json,
    hashes,
    locked,
    read_lines,
    with_checksum,
    write_atomic,
)
from workbench.recipe.keys import stage_keys
from workbench.settings import Settings
from workbench.store import Store


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="continues where it stopped"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]  # no temporary file left


def test_an_impossible_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="choose another place"):
        write_atomic(tmp_path / "file" / "below", b"")


def test_whether_it_can_be_written_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for impossible in (tmp_path, tmp_path / "file" / "below.png", Path("/proc/nowhere/a.png"), tmp_path / ("x" * 300)):
        with pytest.raises(CannotWrite, match=re.escape(str(impossible))):
            check_writable(impossible)
    check_writable(tmp_path / "new" / "a.png")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_of_any_kind_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match=r"a\.json could not be written; free some room"):
        write_atomic(tmp_path / "a.json", b"{}")


def test_every_lock_is_on_a_file_that_is_open_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux's NFS client refuses an exclusive lock on a file that is open for reading only: EBADF."""
    from workbench.runs import Run
    from workbench.sweeps import costs, holding
    from workbench.sweeps.board import Claims

    real, seen = fcntl.flock, []

    def flock(file: Any, how: int) -> None:
        mode = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
        seen.append(how & ~fcntl.LOCK_NB)
        wrong = {fcntl.LOCK_EX: os.O_RDONLY, fcntl.LOCK_SH: os.O_WRONLY}.get(how & ~fcntl.LOCK_NB)
        if mode == wrong:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    append_line(tmp_path / "lines", {})
    with locked(tmp_path / "lock"):
        pass
    store = Store(tmp_path / "store")
    with store.keeping(["a"]):
        (tmp_path / "store" / "pins" / "1-dead").write_text("b")
        assert store.pinned() == {"a"}
    run = Run(tmp_path / "run")
    run.path.mkdir()
    with holding.Holding(run, join=False), holding.working(run, "d", Settings(), about=dict):
        holding.holder(run)
    Claims(tmp_path / "claims").take("a")
    table = costs.Costs(tmp_path / "costs.json", "a device")
    table.learn("base", Settings(model="embedded"), 1.0)
    table.save()
    assert len(seen) >= 10 and fcntl.LOCK_SH in seen


RECORDS = [{"a": 1, "text": "Zoë\n"}, {"a": 2, "list": [1, {"b": "}"}]}, {"a": 3}]


def test_a_line_cut_at_any_byte_is_left_out_and_not_glued_to(tmp_path: Path) -> None:
    first, last, more = RECORDS
    path = tmp_path / "lines"
    append_line(path, first)
    start = path.stat().st_size
    append_line(path, last)
    whole = path.read_bytes()
    for end in range(start, len(whole) + 1):
        path.write_bytes(whole[:end])  # the power went off
        done = [first, last] if end >= len(whole) - 1 else [first]  # all of it but the newline is all of it
        assert read_lines(path) == done
        reader = LineReader(path)
        seen = reader.new()
        assert seen == ([first, last] if end == len(whole) else [first])
        append_line(path, more)
        assert read_lines(path) == [*done, more] == seen + reader.new()
        assert reader.new() == []


def test_a_disk_that_fills_up_within_a_line(tmp_path: Path) -> None:
    """A real refusal of the kernel half-way: the file may not grow beyond a limit."""
    path = tmp_path / "lines"
    append_line(path, RECORDS[0])
    limit = path.stat().st_size + 10
    code = (
        "import resource, signal, sys; from pathlib import Path; from workbench.files import append_line\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"append_line(Path({str(path)!r}), {RECORDS[1]!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "File too large" in done.stderr
    assert path.stat().st_size == limit
    assert read_lines(path) == [RECORDS[0]]
    append_line(path, RECORDS[2])
    assert read_lines(path) == [RECORDS[0], RECORDS[2]]


def _append(path: Path, writer: int, count: int) -> None:
    for number in range(count):
        append_line(path, {"writer": writer, "number": number, "filling": "x" * (number * 37 % 5000)})


def test_processes_and_threads_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'{"cut')
    context = multiprocessing.get_context("spawn")
    writers: list[Any] = [context.Process(target=_append, args=(path, n, 200)) for n in range(4)]
    writers += [threading.Thread(target=_append, args=(path, n, 50)) for n in range(4, 6)]
    for writer in writers:
        writer.start()
    reader, seen = LineReader(path), []
    while any(writer.is_alive() for writer in writers):
        seen += reader.new()
        time.sleep(0.01)
    seen += reader.new()
    assert seen == read_lines(path) and len(path.read_bytes().splitlines()) == 1 + 4 * 200 + 2 * 50
    for writer in range(6):
        mine = [line["number"] for line in seen if line["writer"] == writer]
        assert mine == list(range(200 if writer < 4 else 50))


def test_a_reader_gives_each_line_once(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    reader = LineReader(path)
    assert reader.new() == []
    for number in range(3):
        append_line(path, {"a": number})
    assert reader.new() == [{"a": 0}, {"a": 1}, {"a": 2}]
    assert reader.new() == []
    with open(path, "ab") as file:
        file.write(b'{"a": 3')
        file.flush()
        assert reader.new() == []  # still being written
        file.write(b"}\nno JSON\n")
    append_line(path, {"a": 4})
    assert reader.new() == [{"a": 3}, {"a": 4}]


def test_a_reader_notices_another_file(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    reader = LineReader(path)
    for number in range(3):
        append_line(path, {"a": number})
    reader.new()
    path.write_bytes(path.read_bytes()[:-6])  # cut within what was read
    assert reader.new() == [{"a": 0}, {"a": 1}]
    write_atomic(path, b'{"b": 1}\n' * 50)  # longer than before
    assert reader.new() == [{"b": 1}] * 50
    path.unlink()
    assert reader.new() == []
    append_line(path, {"c": 1})
    assert reader.new() == [{"c": 1}]


def test_a_lock_keeps_others_out(tmp_path: Path) -> None:
    with locked(tmp_path / "lock") as held, locked(tmp_path / "lock", wait=False) as also:
        assert held and not also
    with locked(tmp_path / "lock", wait=False) as held:
        assert held


def test_file_hash_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first = file_sha256(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert file_sha256(path) != first


@pytest.mark.parametrize(("times", "ends_well"), [(1, True), (3, True), (4, False)])
def test_a_folder_that_is_deleted_while_a_file_is_written_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, ends_well: bool
) -> None:
    """A store that was cleared between two steps of a write ended the sweep."""
    from workbench.files import atomic

    real, left = atomic.tempfile.mkstemp, [times]

    def mkstemp(**named: Any) -> Any:
        if left[0]:
            left[0] -= 1
            shutil.rmtree(named["dir"])
        return real(**named)

    monkeypatch.setattr(atomic.tempfile, "mkstemp", mkstemp)
    file = tmp_path / "store" / "a" / "b.png"
    if ends_well:
        atomic.write_atomic(file, b"1")
        assert file.read_bytes() == b"1" and [p.name for p in file.parent.iterdir()] == ["b.png"]
    else:
        with pytest.raises(CannotWrite):
            atomic.write_atomic(file, b"1")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose hash is worth remembering, old enough for its times to be trusted at once."""
    monkeypatch.setattr(hashes, "SETTLED", -(10**18))
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"1" * hashes.REMEMBERED_FROM)
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read to be hashed."""
    names, digest = [], hashes.hashlib.file_digest

    def counting(file: Any, *args: Any) -> Any:
        names.append(Path(file.name).name)
        return digest(file, *args)

    monkeypatch.setattr(hashes.hashlib, "file_digest", counting)
    return names


def new_process() -> None:
    hashes._hashes.clear()


def test_the_hash_of_a_large_file_outlives_the_process(home: Path, weights: Path, reads: list[str]) -> None:
    first = file_sha256(weights)
    assert file_sha256(weights) == first and len(reads) == 1
    new_process()
    assert file_sha256(weights) == first and len(reads) == 1
    small = weights.with_name("small")
    small.write_bytes(b"1")
    file_sha256(small)
    new_process()
    file_sha256(small)
    assert reads == [weights.name, "small", "small"]
    assert list(json.loads((home / "cache" / "hashes.json").read_text())["files"]) == [str(weights)]


@pytest.mark.parametrize("changed", [False, True])
def test_on_a_volume_that_numbers_its_inodes_anew_blocks_are_read(
    home: Path, weights: Path, reads: list[str], changed: bool
) -> None:
    """Network volumes do at each mount: 10 GB were hashed again at every start."""
    first = file_sha256(weights)
    if changed:  # and the times are those of before, as some volumes make them up
        _overwritten(weights)
    stat, cache = weights.stat(), home / "cache" / "hashes.json"
    record = json.loads(cache.read_text())
    (path, known), *_ = record["files"].items()
    before = (stat.st_ino + 1, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, known[4])
    record = hashes.with_checksum({"files": {path: before}, "samples": record["samples"]})
    cache.write_text(json.dumps(record))
    new_process()
    assert (file_sha256(weights) == first) is not changed and len(reads) == 1 + changed


def _replaced(path: Path) -> None:
    path.with_name("other").write_bytes(b"2" * hashes.REMEMBERED_FROM)
    path.with_name("other").rename(path)


def _overwritten(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"2")


@pytest.mark.parametrize("change", [_replaced, _overwritten])
@pytest.mark.parametrize("same_process", [True, False])
def test_a_change_that_restores_size_and_date_is_seen(weights: Path, change: Any, same_process: bool) -> None:
    stat = weights.stat()
    first = file_sha256(weights)
    time.sleep(0.02)  # a tick of the file system's clock
    change(weights)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert (weights.stat().st_ino == stat.st_ino) == (change is _overwritten)
    if not same_process:
        new_process()
    assert file_sha256(weights) != first


@pytest.mark.parametrize("same_process", [True, False])
def test_a_changed_model_file_changes_the_keys(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_process: bool
) -> None:
    """Though size and date are the old ones, and the cache of hashes holds every file."""
    monkeypatch.setattr(hashes, "SETTLED", -(10**18))
    monkeypatch.setattr(hashes, "REMEMBERED_FROM", 0)
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    settings = Settings(model=str(model), width=64, height=64)
    before = stage_keys(settings)
    new_process()
    assert stage_keys(settings) == before
    file = model / "refiner" / "unet" / "diffusion_pytorch_model.safetensors"
    stat = file.stat()
    time.sleep(0.02)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    if not same_process:
        new_process()
    after = stage_keys(settings)
    assert before["base"] == after["base"] and before["refine"] != after["refine"] and before["faces"] != after["faces"]


def test_a_young_file_is_hashed_again(weights: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "SETTLED", 2_000_000_000)
    assert file_sha256(weights) == file_sha256(weights) and len(reads) == 2


@pytest.mark.parametrize("changes", [1, 3])
def test_a_file_written_to_while_it_is_hashed(weights: Path, monkeypatch: pytest.MonkeyPatch, changes: int) -> None:
    digest, turns = hashes.hashlib.file_digest, []

    def slow(file: Any, *args: Any) -> Any:
        found = digest(file, *args)
        turns.append(found.hexdigest())
        if len(turns) <= changes:
            time.sleep(0.02)
            _overwritten(weights)
        return found

    monkeypatch.setattr(hashes.hashlib, "file_digest", slow)
    if changes == 3:
        with pytest.raises(StillWritten, match="wait until"):
            file_sha256(weights)
    else:
        assert file_sha256(weights) == turns[1] != turns[0] and len(turns) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "list"])
def test_a_damaged_hash_cache_is_ignored_and_rewritten(
    home: Path, weights: Path, reads: list[str], damage: str
) -> None:
    first = file_sha256(weights)
    cache = home / "cache" / "hashes.json"
    text = cache.read_text()
    other = ("1" if first[0] != "1" else "2") + first[1:]
    cache.write_text({"cut": text[:-9], "flipped": text.replace(first, other), "empty": "", "list": "[]"}[damage])
    new_process()
    assert file_sha256(weights) == first and len(reads) == 2
    new_process()
    assert file_sha256(weights) == first and len(reads) == 2


def test_a_home_that_cannot_be_written_to_still_hashes(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights.with_name("file").write_text("")
    monkeypatch.setenv("WORKBENCH_HOME", str(weights.with_name("file")))
    assert file_sha256(weights) == file_sha256(weights)


def _hash_all(paths: list[Path]) -> None:
    hashes.SETTLED = -(10**18)
    for path in paths:
        file_sha256(path)


def test_processes_merge_what_they_hashed(home: Path, tmp_path: Path, reads: list[str]) -> None:
    paths = [tmp_path / f"weights{n}" for n in range(12)]
    for path in paths:
        path.write_bytes(path.name.encode() * hashes.REMEMBERED_FROM)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_hash_all, args=(paths[n::3],)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len({file_sha256(path) for path in paths}) == 12 and reads == []


def test_hash_json_ignores_the_order_of_keys() -> None:
    assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1}) != hash_json({"a": 1, "b": 3})


def test_checksums() -> None:
    record = json.loads(json.dumps(with_checksum({"a": (1, 2), "b": {3: None, 20: 1.5}})))
    assert record["a"] == [1, 2] and checksum_holds(record)
    assert not any(map(checksum_holds, [{**record, "a": [1, 3]}, {**record, "c": 1}, {"a": 1}, [], None, 5]))
