import errno
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.stores import age, key, keys_in, noise

from workbench.errors import NoEviction, StoreUnreachable, UnknownPlace, UnreadableSize
from workbench.store import places, store as store_module
from workbench.store.places import Folder, Remote, parse_size, size_words
from workbench.store.store import Artefact, Store, pack, unpack
from workbench.store.upkeep import Leftovers, stats, verify


def same(one: Artefact | None, other: Artefact) -> bool:
    return one is not None and (one.image.tobytes(), one.generator_state, one.info, one.seconds) == (
        other.image.tobytes(), other.generator_state, other.info, other.seconds,
    )  # fmt: skip


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("??/*"))


@pytest.fixture(params=["folder", "memory", "file", "file through fsspec"])
def where(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path | str:
    """A place of each kind."""
    if request.param == "memory":
        return f"memory://{tmp_path.name}"
    if request.param == "file through fsspec":
        monkeypatch.setattr(
            store_module, "open_place", lambda where: where if isinstance(where, Remote) else Remote(where)
        )
    return tmp_path / "store" if request.param == "folder" else f"file://{tmp_path}/store"


def test_kept_whole(where: Path | str) -> None:
    artefact = noise(1, seconds=1.5)
    store = Store(where)
    assert key(1) not in store and store.get(key(1)) is None
    size = store.put(key(1), artefact, {"stage": "base"})
    assert store.place and size == sum(file.size for file in store.place.files())
    again = Store(where)
    assert key(1) in again and key(2) not in again and same(again.get(key(1)), artefact)
    assert not same(again.get(key(1)), noise(2, seconds=1.5))


def test_no_state_and_an_empty_one_are_not_the_same(tmp_path: Path) -> None:
    for number, state in enumerate((None, b"")):
        Store(tmp_path).put(key(number), Artefact(Image.new("RGB", (4, 4)), state), {})
        found = Store(tmp_path).get(key(number))
        assert found is not None and found.generator_state == state


def test_info_comes_back_as_json_has_it(tmp_path: Path) -> None:
    info = {"box": (1, 2), "by_number": {10: "a", 9: "b"}, "nothing": float("nan"), "name": "Zoë \ud83d\ude00"}
    Store(tmp_path).put(key(1), Artefact(Image.new("RGB", (4, 4)), info=info), {})
    found = Store(tmp_path).get(key(1))
    assert found is not None and found.info["box"] == [1, 2] and found.info["by_number"] == {"10": "a", "9": "b"}


@pytest.mark.parametrize("action", ["write", "drop"])
def test_a_crash_between_the_two_files_leaves_no_commit_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    store = Store(tmp_path)
    if action == "drop":
        store.put(key(1), noise(1), {})
        age(tmp_path, 100)
    once, done = getattr(Folder, action), []

    def dying(self: Folder, name: str, *data: bytes) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(name)
        once(self, name, *data)

    monkeypatch.setattr(Folder, action, dying)
    with pytest.raises(KeyboardInterrupt):
        store.put(key(1), noise(1), {}) if action == "write" else store.evict(0)
    assert [path.suffix for path in tmp_path.glob("??/*")] == [".png"] and key(1) not in Store(tmp_path)


DAMAGES = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "no JSON object": lambda data: b"5",
    "missing": None,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("half", [".png", ".json"])
def test_damage_counts_as_absent_and_is_made_good(where: Path | str, half: str, damage: str) -> None:
    store = Store(where)
    store.put(key(1), noise(1), {})
    name = f"{key(1)[:2]}/{key(1)}{half}"
    change, place = DAMAGES[damage], Store(where).place
    assert place is not None
    if change:
        place.write(name, change(place.read(name)))
    else:
        place.drop(name)
        assert key(1) not in Store(where)
    assert Store(where).get(key(1)) is None
    assert key(1) not in Store(where)
    assert [name for name in ("png", "json") if place.has(f"{key(1)[:2]}/{key(1)}.{name}")] in ([], ["png"])
    Store(where).put(key(1), noise(1), {})
    assert same(Store(where).get(key(1)), noise(1))


def test_another_picture_is_not_served(tmp_path: Path) -> None:
    Store(tmp_path).put(key(1), noise(1), {})
    Store(tmp_path).put(key(2), noise(2), {})
    one, two = (next(tmp_path.rglob(f"{key(n)}.png")) for n in (1, 2))
    one.write_bytes(two.read_bytes())
    assert Store(tmp_path).get(key(1)) is None


@pytest.mark.parametrize("flips", [1, 3])
def test_flipped_bits_are_found_or_harmless(flips: int) -> None:
    artefact, rng, found = noise(1, side=12), random.Random(flips), {0: 0, 1: 0}
    for _ in range(3000):
        files = list(map(bytearray, pack(artefact, {"stage": "base"})))
        which = rng.randrange(2)
        for _ in range(flips):
            files[which][rng.randrange(len(files[which]))] ^= 1 << rng.randrange(8)
        try:
            assert same(unpack(*map(bytes, files)), artefact)
        except store_module.DamagedArtefact:
            found[which] += 1
    assert found[0] > 1000 and found[1] > 1000


def test_every_byte_of_the_commit_mark_counts() -> None:
    artefact = noise(1, side=2)
    png, mark = pack(artefact, {})
    for place in range(len(mark)):
        for bit in range(8):
            data = bytearray(mark)
            data[place] ^= 1 << bit
            try:
                assert same(unpack(png, bytes(data)), artefact)
            except store_module.DamagedArtefact:
                continue


@pytest.mark.parametrize("mark", ["", "null", "0", '"text"', "[]", "{}", "[1]", "[" * 100_000, '{"checksum": 1}'])
def test_a_mark_of_another_shape_is_damage(tmp_path: Path, mark: str) -> None:
    store = Store(tmp_path)
    store.put(key(1), noise(1), {})
    next(tmp_path.rglob("*.json")).write_text(mark)
    again = Store(tmp_path)
    assert stats(again).stages.keys() == {"damaged"} and again.get(key(1)) is None


def test_the_largest_picture_that_settings_allow_is_not_taken_for_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # as 16384 x 16384 is for the real limit
    assert same(unpack(*pack(noise(1), {})), noise(1))


def test_memory_alone(tmp_path: Path) -> None:
    store = Store(None)
    store.put(key(1), noise(1), {})
    with store.keeping([key(1)]):
        assert key(1) in store and store.get(key(1)) is not None and list(tmp_path.iterdir()) == []


def test_memory_is_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MEMORY_LIMIT", 10 * 3 * 32 * 32)
    store = Store(None)
    for number in range(30):
        store.put(key(number), noise(number), {})
        store.put(key(number), noise(number), {})  # the same again takes no more room
    assert [n for n in range(30) if key(n) in store] == list(range(20, 30))
    store.get(key(20))
    store.put(key(30), noise(30), {})
    assert key(20) in store and key(21) not in store  # the longest unused goes
    store.put(key(31), noise(31, side=500), {})
    assert [n for n in range(32) if key(n) in store] == [31]  # larger than all the room: alone

    Store(tmp_path).put(key(1), noise(1), {})
    reader = Store(tmp_path)
    assert same(reader.get(key(1), remember=False), noise(1))
    next(tmp_path.rglob("*.json")).unlink()
    assert reader.get(key(1)) is None


def test_a_store_travels_to_another_process(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(key(1), noise(1), {})
    assert same(pickle.loads(pickle.dumps(store)).get(key(1)), noise(1))


def test_the_place_is_named_by_the_environment(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Store.at_home().folder == home / "store"
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "shared"))
    assert Store.at_home().folder == tmp_path / "shared"
    monkeypatch.setenv("WORKBENCH_STORE", f"file://{tmp_path}/shared")
    assert Store.at_home().folder == tmp_path / "shared"
    monkeypatch.setenv("WORKBENCH_STORE", "memory://there")
    assert Store.at_home().folder == "memory://there" and isinstance(Store.at_home().place, Remote)
    monkeypatch.setenv("WORKBENCH_STORE", "teleport://there")
    with pytest.raises(UnknownPlace, match="teleport"):
        Store.at_home()


def test_a_remote_store_that_does_not_answer_is_no_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("memory://broken")
    store.put(key(1), noise(1), {})

    def unplugged(*_: object, **__: object) -> None:
        raise ConnectionError("network is unreachable")

    from fsspec.implementations.memory import MemoryFileSystem

    for name in ("info", "cat_file", "pipe_file", "find"):
        monkeypatch.setattr(MemoryFileSystem, name, unplugged)
    fresh = Store("memory://broken")
    for ask in (
        lambda: key(1) in fresh,
        lambda: fresh.get(key(1)),
        lambda: store.put(key(2), noise(2), {}),
        fresh.entries,
    ):
        with pytest.raises(StoreUnreachable, match="network is unreachable"):
            ask()
    monkeypatch.undo()
    assert same(fresh.get(key(1)), noise(1))


@pytest.mark.parametrize(
    ("text", "size"),
    [("50GB", 50e9), ("800 MB", 800e6), ("0", 0), ("1.5 TiB", 1.5 * 2**40), ("10gib", 10 * 2**30), ("7 B", 7)],
)
def test_sizes_are_read(text: str, size: float) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["50", "many", "-1GB", "GB", "1 XB", "1ib", "1,5GB", "nan GB"])
def test_unreadable_sizes(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORE_LIMIT", text)
    with pytest.raises(UnreadableSize, match=r"WORKBENCH_STORE_LIMIT = .* like 50GB"):
        Store(tmp_path)


def test_sizes_in_words() -> None:
    assert [size_words(n) for n in (0, 999, 1000, 1.5e9, 999.6e6, 2e15)] == [
        "0 B", "999 B", "1 kB", "1.5 GB", "1 GB", "2e+03 TB",
    ]  # fmt: skip


def test_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_STORE_LIMIT", raising=False)
    monkeypatch.setattr(places, "disk_of", lambda folder: (100_000_000_000, 1))
    assert Store(tmp_path / "not" / "there").limit == 20_000_000_000  # a fifth of a small disk
    monkeypatch.setattr(places, "disk_of", lambda folder: (10**13, 1))
    assert Store(tmp_path).limit == 50_000_000_000
    monkeypatch.setenv("WORKBENCH_STORE_LIMIT", "3 MB")
    assert Store(tmp_path).limit == 3_000_000 and Store("memory://x").limit == 0


def test_eviction_drops_the_most_bytes_per_second_of_work(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(key(1), noise(1, side=64, seconds=10), {})  # large, dear
    store.put(key(2), noise(2, side=64, seconds=1), {})  # large, cheap: first
    store.put(key(3), noise(3, side=8, seconds=0.1), {})  # small, cheaper still, yet fewer bytes per second
    store.put(key(4), noise(4, side=64, seconds=2), {})  # second
    age(tmp_path, 100)
    whole = size_of(tmp_path)
    told = store.evict(whole - 1, dry_run=True)
    assert told.keys == [key(2)] and size_of(tmp_path) == whole
    gone = store.evict(whole - 1)
    assert gone == told and gone.seconds == 1 and gone.left == size_of(tmp_path) == whole - gone.size
    assert keys_in(tmp_path) == {key(1), key(3), key(4)}
    store.evict(gone.left - 1)
    assert keys_in(tmp_path) == {key(1), key(3)}
    again = Store(tmp_path)
    assert again.get(key(2)) is None and same(again.get(key(1)), noise(1, side=64, seconds=10))
    store.evict(0)
    assert keys_in(tmp_path) == {key(1)}  # read just now


def test_what_is_old_goes_first_and_use_keeps_young(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(4):
        store.put(key(number), noise(number, seconds=number + 1), {})
    age(tmp_path, 40 * 86400)
    assert same(Store(tmp_path).get(key(0)), noise(0))  # used now, whenever it was written
    age(tmp_path, 5 * 86400, key(3))
    gone = store.evict(1 << 62, older_than=30 * 86400)
    assert set(gone.keys) == {key(1), key(2)} and keys_in(tmp_path) == {key(0), key(3)}
    store.put(key(4), noise(4, seconds=0.1), {})
    age(tmp_path, 100, key(4))
    gone = store.evict(size_of(tmp_path) - 1, older_than=86400)
    assert gone.keys == [key(3)]  # which makes room enough, though more bytes per second lie in the younger one


def test_a_put_over_the_limit_evicts_to_nine_tenths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORE_LIMIT", "100 kB")
    monkeypatch.setattr(store_module, "PAUSE", 0.0)
    store = Store(tmp_path)
    sizes = []
    for number in range(80):
        store.put(key(number), noise(number), {})  # 3.5 kB each
        sizes.append(size_of(tmp_path))
        age(tmp_path, 100)
    assert 85_000 < max(sizes) <= 100_000
    assert 85_000 < min(sizes[40:]) < 90_000
    assert key(79) in Store(tmp_path)


def test_not_every_put_looks_through_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORE_LIMIT", "1 MB")
    looks, files = [], Folder.files
    monkeypatch.setattr(Folder, "files", lambda self: looks.append(1) or files(self))
    store = Store(tmp_path)
    for number in range(30):
        store.put(key(number), noise(number), {})  # 3.5 kB each: 20 kB, a fiftieth of the limit, are six
    assert 3 <= len(looks) <= 6


def test_what_others_write_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORE_LIMIT", "100 kB")
    one, other = Store(tmp_path), Store(tmp_path)
    one.put(key(1), noise(1), {})
    for number in range(2, 27):
        other.put(key(number), noise(number), {})
    age(tmp_path, 100)
    for number in range(27, 30):
        one.put(key(number), noise(number), {})
    assert size_of(tmp_path) < 100_000


def test_what_is_in_use_is_not_evicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORE_LIMIT", "20 kB")
    store = Store(tmp_path)
    for number in range(10):
        store.put(key(number), noise(number), {})
    assert len(keys_in(tmp_path)) == 10  # younger than a minute, all of them
    age(tmp_path, 100)
    with Store(tmp_path).keeping([key(2), key(3), key(99)]):
        with store.keeping(iter([key(4)])):
            assert store.pinned() == {key(2), key(3), key(4), key(99)}
            Store(tmp_path).evict(0)
            assert keys_in(tmp_path) == {key(2), key(3), key(4)}
        store.evict(0)
        assert keys_in(tmp_path) == {key(2), key(3)}
    assert store.pinned() == set() and list((tmp_path / "pins").iterdir()) == []
    store.evict(0)
    assert keys_in(tmp_path) == set()


def test_pins_hold_where_a_process_does_not_lock_itself_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS, where flock is a lock of the whole process."""
    store = Store(tmp_path)
    store.put(key(1), noise(1), {})
    age(tmp_path, 100)
    monkeypatch.setattr(places.fcntl, "flock", lambda file, how: None)
    with store.keeping([key(1)]):
        store.evict(0)
        assert keys_in(tmp_path) == {key(1)}
    store.evict(0)
    assert keys_in(tmp_path) == set()


def test_pins_of_another_process_hold_until_it_dies(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(3):
        store.put(key(number), noise(number), {})
    age(tmp_path, 100)
    code = (
        "import sys, time; from workbench.store import Store\n"
        f"with Store({str(tmp_path)!r}).keeping([{key(1)!r}]): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        store.evict(0)
        assert keys_in(tmp_path) == {key(1)}
        process.send_signal(signal.SIGKILL)
    assert len(list((tmp_path / "pins").iterdir())) == 1  # it could not tidy up
    store.evict(0)
    assert keys_in(tmp_path) == set() and list((tmp_path / "pins").iterdir()) == []


def test_pins_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their files can be read, not written; those of an older workbench cannot be read either: then nothing is evicted."""
    store, refused = Store(tmp_path), set[str]()
    for number in range(3):
        store.put(key(number), noise(number), {})
    age(tmp_path, 100)

    def opened(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if Path(path).parent.name == "pins" and mode in refused:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open(path, mode, *rest, **more)

    monkeypatch.setattr(places, "open", opened, raising=False)
    with store.keeping([key(1)]):
        (pin,) = (tmp_path / "pins").iterdir()
        assert pin.stat().st_mode & 0o444 == 0o444
        monkeypatch.setattr(places, "_own_pins", set[str]())  # as another process sees it
        refused |= {"r+", "w", "a"}
        assert store.pinned() == {key(1)}
        refused.add("r")
        store.evict(0)
        assert keys_in(tmp_path) == {key(0), key(1), key(2)}


def test_a_dead_pin_that_another_user_alone_may_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a folder with the sticky bit."""
    store = Store(tmp_path)
    store.put(key(1), noise(1), {})
    age(tmp_path, 100)
    (tmp_path / "pins").mkdir()
    (tmp_path / "pins" / "1-dead").write_text(key(1))

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(places.Path, "unlink", unlink)
        assert store.pinned() == set()


def test_eviction_leaves_other_files_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(key(1), noise(1), {})
    others = [tmp_path / name for name in ("eu/europe.png", "eu/europe.json", "seconds_per_unit.json", f"{key(2)}.png")]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
        os.utime(path, (0, 0))
    age(tmp_path, 100)
    store.evict(0)
    assert all(path.exists() for path in others) and keys_in(tmp_path) == {"europe"}


def test_leftovers_of_a_killed_process_are_evicted_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(key(1), noise(1), {})
    store.put(key(2), noise(2), {})
    next(tmp_path.rglob(f"{key(2)}.json")).unlink()
    half = tmp_path / key(1)[:2] / f".{key(1)}.png.x1_"
    half.write_bytes(bytes(1000))
    age(tmp_path, 100)
    assert verify(store).leftovers == [f"{key(2)[:2]}/{key(2)}.png"]  # the other may still be being written
    age(tmp_path, 1000)
    assert len(verify(store).leftovers) == 2
    store.evict(size_of(tmp_path) - 1000 - next(tmp_path.rglob(f"{key(2)}.png")).stat().st_size)
    assert {path.name for path in tmp_path.glob("??/*")} == {f"{key(1)}.json", f"{key(1)}.png"}


def test_a_remote_store_is_not_evicted_from() -> None:
    store = Store("memory://never")
    store.put(key(1), noise(1), {})
    with store.keeping([key(1)]):
        assert store.pinned() == set()
    with pytest.raises(NoEviction, match="only folders"):
        store.evict(0)


def test_a_full_store_does_not_stop_the_puts_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORE_LIMIT", "60 kB")
    monkeypatch.setattr(store_module, "RECENT", -1.0)
    store, errors = Store(tmp_path), []

    def work(first: int) -> None:
        try:
            for number in range(first, first + 15):
                store.put(key(number), noise(number), {})
                found = Store(tmp_path).get(key(number))
                assert found is None or same(found, noise(number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n * 10,)) for n in range(4)]  # they overlap
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and size_of(tmp_path) < 75_000


def _fill(folder: str, first: int) -> None:
    for number in range(first, first + 20):
        store = Store(folder)
        with store.keeping([key(number)]):
            store.put(key(number), noise(number), {})
            store.evict(20_000)
            assert same(Store(folder).get(key(number)), noise(number))


def test_processes_share_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RECENT", -1.0)
    context = multiprocessing.get_context("fork")  # with the patched minute
    workers = [context.Process(target=_fill, args=(str(tmp_path), n * 10)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert verify(Store(tmp_path)).damaged == []


def test_stats(where: Path | str) -> None:
    store = Store(where)
    for number in range(3):
        store.put(key(number), noise(number, seconds=2), {"stage": "base" if number else "faces"})
    with store.keeping([key(7)]):
        found = stats(store)
    assert (found.together.artefacts, found.together.seconds) == (3, 6) and found.leftovers == Leftovers(0, 0)
    assert {stage: (row.artefacts, row.seconds) for stage, row in found.stages.items()} == {
        "base": (2, 4), "faces": (1, 2),
    }  # fmt: skip
    assert store.place and found.together.bytes == sum(file.size for file in store.place.files()) > 9000
    if isinstance(store.place, Folder):
        assert found.together.last_use is not None and abs(found.together.last_use - time.time()) < 60
        assert found.pinned == 1 and found.limit and found.free
    else:
        assert (found.pinned, found.together.last_use, found.limit, found.free) == (0, None, 0, None)


def test_verify_reads_all_and_drops_what_is_damaged(where: Path | str) -> None:
    store = Store(where)
    for number in range(5):
        store.put(key(number), noise(number), {})
    place = store.place
    assert place is not None
    png, mark = f"{key(1)[:2]}/{key(1)}.png", f"{key(2)[:2]}/{key(2)}.json"
    place.write(png, pack(noise(2), {})[0])
    place.write(mark, place.read(mark).replace(b'"seconds": 1.0', b'"seconds": 9.0'))
    place.drop(f"{key(3)[:2]}/{key(3)}.png")
    place.drop(f"{key(4)[:2]}/{key(4)}.json")
    if isinstance(place, Folder):
        assert verify(store).leftovers == []  # it may be about to be finished
        age(place.path, 100)
    found = verify(Store(where))
    assert found.artefacts == 4 and {row["key"]: row["reason"] for row in found.damaged} == {
        key(1): "its pixels do not match their hash.",
        key(2): "its JSON does not match its checksum.",
        key(3): "its picture is missing.",
    }
    left = [f"{key(4)[:2]}/{key(4)}.png"]
    assert found.leftovers == (left if isinstance(place, Folder) else [])
    assert verify(Store(where), drop=True).damaged == found.damaged
    clean = verify(Store(where))
    assert (clean.artefacts, clean.damaged, clean.leftovers) == (1, [], [])
    assert [file.name for file in place.files() if file.key == key(4)] == ([] if isinstance(place, Folder) else left)
