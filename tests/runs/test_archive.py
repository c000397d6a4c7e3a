"""A run leaves its machine as one file, and comes back from it whole or not at all."""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.kills import killed_at
from support.runs import duel, rewrite, scored

from workbench.analysis import votes
from workbench.errors import AlreadyThere, BadArchive, DiskFull, StillWritten
from workbench.files import with_checksum
from workbench.promotion.promoting import write_promoted
from workbench.runs import archive, unpacking
from workbench.runs.archive import export_run
from workbench.runs.run import Run, find_run, list_runs, runs_folder
from workbench.runs.unpacking import import_run

Entry = tuple[tarfile.TarInfo, bytes]


@pytest.fixture
def run(home: Path) -> Run:
    """Six cells with pictures, a vote, and what a process at work leaves beside them."""
    run = scored(seeds=1)
    for record in run.records():
        path = run.picture(record)
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (record["cell"], 0, 0)).save(path)
    pair = votes.Pair(0, 1)
    votes.record(run, pair, "a")
    for name in ("lock", "workers", "stop", "claims/f0", "pictures/.0000.png.half"):
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).write_text("")
    return run


@pytest.fixture
def tar(run: Run, tmp_path: Path) -> Path:
    return export_run(run, tmp_path / "run.tar").path


@pytest.fixture
def elsewhere(tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another machine's home, to which the archive was taken."""
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "elsewhere"))
    return tmp_path / "elsewhere"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def entries(tar: Path) -> list[Entry]:
    with tarfile.open(tar) as file:
        return [(each, content.read() if (content := file.extractfile(each)) else b"") for each in file]


def rewritten(tar: Path, change: Callable[[list[Entry]], list[Entry] | None]) -> Path:
    """The archive as somebody with ill will has made it anew; its manifest is right but for what `change` did."""
    old = entries(tar)
    new = change(old) or old
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as file:
        for header, data in new:
            header.size = len(data) if header.isreg() else 0
            file.addfile(header, io.BytesIO(data))
    return tar


def with_manifest(tar: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    def renew(old: list[Entry]) -> None:
        body = {name: value for name, value in json.loads(old[0][1]).items() if name != "checksum"}
        change(body)
        old[0] = (old[0][0], json.dumps(with_checksum(body)).encode())

    return rewritten(tar, renew)


def test_a_run_comes_back_as_it_was_and_can_be_used_as_there(run: Run, tar: Path, elsewhere: Path) -> None:
    made, written = import_run(tar)
    back = find_run("latest")
    assert written and back.path == made.run.path == elsewhere / "runs" / run.id
    there = content(back.path)
    assert {name: data for name, data in content(run.path).items() if name in there} == {
        name: data for name, data in there.items() if not name.startswith("presets/")
    }
    assert sorted(set(content(run.path)) - set(there)) == [
        "claims/f0", "lock", "pictures/.0000.png.half", "stop", "workers"
    ]  # fmt: skip
    assert back.records() == run.records() and len(votes.read(back)) == 1
    assert back.picture(back.records()[3]).stat().st_mtime_ns == run.picture(run.records()[3]).stat().st_mtime_ns
    assert write_promoted(back).evidence["run"] == run.id


def test_an_archive_brings_the_presets_that_the_run_began_with_and_became(run: Run, tmp_path: Path) -> None:
    for _ in range(2):  # the first is replaced
        write_promoted(run)
    made = export_run(run, tmp_path / "run.tar")
    first, second, third = made.presets
    assert (first, third) == ("embedded.json", "production.json") and second.startswith("production-20")
    held = dict((header.name, data) for header, data in entries(made.path))
    assert json.loads(held[f"{run.id}/presets/production.json"])["evidence"]["run"] == run.id


def test_a_duel_comes_back_with_who_met(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.promotion.duel import kept_meeting

    met = duel([(50.0, 55.0)] * 4)
    export_run(met, tmp_path / "duel.tar")
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "elsewhere"))
    back, _ = import_run(tmp_path / "duel.tar")
    assert kept_meeting(back.run) == kept_meeting(met)


def test_the_same_run_gives_the_same_bytes(run: Run, tar: Path, tmp_path: Path) -> None:
    assert export_run(run, tmp_path / "again.tar").path.read_bytes() == tar.read_bytes()


def test_a_line_that_is_being_written_waits_for_the_next_export(run: Run, tmp_path: Path) -> None:
    whole = run.journal.read_bytes()
    with open(run.journal, "ab") as file:
        file.write(b'{"kind": "cell", "cell')
    held = dict((header.name, data) for header, data in entries(export_run(run, tmp_path / "run.tar").path))
    assert held[f"{run.id}/journal.jsonl"] == whole


def test_a_file_that_changes_meanwhile_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = run.picture(run.records()[2])

    def change(*words: Any) -> None:
        picture.write_bytes(picture.read_bytes()[::-1])

    monkeypatch.setattr(archive, "check_room", change)
    with pytest.raises(StillWritten, match=r"0002\.png was written anew"):
        export_run(run, tmp_path / "run.tar")
    monkeypatch.setattr(archive, "check_room", lambda *words: picture.unlink())
    with pytest.raises(StillWritten, match=r"0002\.png"):
        export_run(run, tmp_path / "run.tar")
    assert not [path for path in tmp_path.iterdir() if "run.tar" in path.name]


def test_an_export_replaces_nothing_unasked(run: Run, tar: Path) -> None:
    with pytest.raises(AlreadyThere, match="--force"):
        export_run(run, tar)
    assert export_run(run, tar, force=True).files == 10
    with pytest.raises(AlreadyThere, match="part of itself"):
        export_run(run, run.path / "run.tar")


def test_a_disk_without_room_is_told_beforehand(run: Run, tar: Path, elsewhere: Path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**30, 2**30, 1000))  # type: ignore
    with pytest.raises(DiskFull, match="needs 0 MB, and the disk of"):
        import_run(tar)
    assert not (runs_folder() / run.id).exists()
    with pytest.raises(DiskFull):
        export_run(run, tar.with_name("other.tar"))


def test_what_is_there_already_is_left_as_it_is(run: Run, tar: Path, elsewhere: Path) -> None:
    back = import_run(tar)[0].run
    (back.path / "report.html").write_text("drawn here")
    (back.path / "lock").write_text("")
    before = content(back.path)
    assert import_run(tar)[1] is False and content(back.path) == before
    votes.record(back, votes.Pair(2, 3), "b")
    with pytest.raises(AlreadyThere, match=r"6 of 6 cells are recorded there, 6 of 6 in the archive.*move that folder"):
        import_run(tar)
    shutil.rmtree(back.path / "pictures")
    (back.path / "votes.jsonl").write_bytes(before["votes.jsonl"])
    with pytest.raises(AlreadyThere):
        import_run(tar)


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("../evil.png", "no path in a run's folder"),
        ("/evil.png", "no path in a run's folder"),
        ("pictures/../../evil.png", "no path in a run's folder"),
        ("pictures//evil.png", "no path in a run's folder"),
        (".hidden", "no path in a run's folder"),
        ("run.json/evil", "no path in a run's folder"),
        ("a\0b", "no path in a run's folder"),
    ],
)
def test_no_path_leaves_the_folder(run: Run, tar: Path, elsewhere: Path, name: str, about: str) -> None:
    picture = {"bytes": 1, "sha256": "0" * 64, "mtime_ns": 0}
    with pytest.raises(BadArchive, match=about):
        import_run(with_manifest(tar, lambda body: body["files"].update({name: picture})))
    assert not content(elsewhere)


@pytest.mark.parametrize("name", ["..", "../x", "a/b", ".hidden", ""])
def test_a_run_is_named_by_one_plain_word(tar: Path, elsewhere: Path, name: str) -> None:
    def rename(old: list[Entry]) -> None:
        for header, _ in old:
            header.name = f"{name}/{header.name.partition('/')[2]}"

    rewritten(with_manifest(tar, lambda body: body.update(run=name)), rename)
    with pytest.raises(BadArchive):
        import_run(tar)
    assert not content(elsewhere)


def linked(kind: bytes) -> Callable[[list[Entry]], None]:
    def change(old: list[Entry]) -> None:
        header = next(header for header, _ in old if header.name.endswith("0001.png"))
        header.type, header.linkname = kind, "/etc/passwd"

    return change


ILL: dict[str, tuple[Callable[[list[Entry]], Any], str]] = {
    "a symbolic link": (linked(tarfile.SYMTYPE), "0001.png.*is no plain file"),
    "a hard link": (linked(tarfile.LNKTYPE), "0001.png.*is no plain file"),
    "a device": (linked(tarfile.CHRTYPE), "0001.png.*is no plain file"),
    "a pipe": (linked(tarfile.FIFOTYPE), "0001.png.*is no plain file"),
    "a folder": (linked(tarfile.DIRTYPE), "0001.png.*is no plain file"),
    "a file twice": (lambda old: [*old, old[-1]], "is there twice"),
    "a file that the manifest lacks": (
        lambda old: [*old, (tarfile.TarInfo("../evil"), b"x")],
        "'../evil' of .* is not in its manifest",
    ),
    "a file less": (lambda old: old[:-1], "is cut short: votes.jsonl"),
    "a file of another size": (lambda old: [*old[:-1], (old[-1][0], b"x")], "votes.jsonl in .* is damaged"),
    "a file of other content": (
        lambda old: [*old[:-1], (old[-1][0], old[-1][1][::-1])],
        "votes.jsonl in .* is damaged",
    ),
    "no manifest": (lambda old: old[1:], "does not begin with a manifest"),
    "an altered manifest": (
        lambda old: [(old[0][0], old[0][1].replace(b'"cells": 6', b'"cells": 9')), *old[1:]],
        "altered or damaged",
    ),
    "nothing": (lambda old: [(tarfile.TarInfo("x"), b"")], "does not begin with a manifest"),
}


@pytest.mark.parametrize("what", ILL)
def test_a_tampered_archive_is_refused_by_name(run: Run, tar: Path, elsewhere: Path, what: str) -> None:
    change, said = ILL[what]
    with pytest.raises(BadArchive, match=said) as told:
        import_run(rewritten(tar, change))
    assert "\n" not in str(told.value) and not list_runs() and set(content(elsewhere)) <= {"runs/.importing/lock"}


def test_an_archive_of_another_version_says_so(tar: Path, elsewhere: Path) -> None:
    with pytest.raises(BadArchive, match="version 2, this workbench reads version 1"):
        import_run(with_manifest(tar, lambda body: body.update(version=2)))


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100, b"\0" * 20480, b"PK\x03\x04" * 400])
def test_another_file_is_no_archive(elsewhere: Path, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    for path in (tmp_path / "x.tar", tmp_path, tmp_path / "none.tar"):
        with pytest.raises(BadArchive):
            import_run(path)


def test_an_archive_cut_anywhere_or_with_a_bit_turned_is_refused(run: Run, tar: Path, elsewhere: Path) -> None:
    whole = tar.read_bytes()
    used = len(whole.rstrip(b"\0"))
    for at in range(0, used, used // 24):
        tar.write_bytes(whole[:at])
        with pytest.raises(BadArchive):
            import_run(tar)
    for at in range(40, used, used // 24):
        tar.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            back = import_run(tar)[0].run  # in what is padding, or the owner of a file
        except BadArchive:
            continue
        assert back.records() == run.records()
        shutil.rmtree(back.path)
    assert not list_runs()


def test_pictures_that_records_name_lie_in_the_run(run: Run, elsewhere: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(run.path.parents[1]))
    rewrite(run, 2, picture="../../../etc/passwd")
    export_run(run, tmp_path / "evil.tar")
    monkeypatch.setenv("WORKBENCH_HOME", str(elsewhere))
    with pytest.raises(BadArchive, match=r"cell 2 is .*which lies elsewhere"):
        import_run(tmp_path / "evil.tar")
    assert not list_runs()


def test_an_import_that_is_killed_leaves_nothing_half(run: Run, tar: Path, elsewhere: Path) -> None:
    moment = 0
    while killed_at(moment, elsewhere, lambda: import_run(tar)):
        for each in list_runs():  # renamed: then it is whole
            assert len(each.records()) == 6 and all(each.picture(record).is_file() for record in each.records())
            shutil.rmtree(each.path)
        moment += 1
    assert moment > 20 and len(list_runs()) == 1
    left = [path for path in (runs_folder() / unpacking.INCOMING).iterdir() if path.is_dir()]
    assert left == []


def test_an_export_that_is_killed_leaves_no_half_file(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    moment = 0
    while killed_at(moment, folder, lambda: export_run(run, folder / "run.tar", force=True)):
        assert not (folder / "run.tar").exists()
        moment += 1
    assert moment >= 3 and len(entries(folder / "run.tar")) == 11


def test_a_ctrl_c_cleans_up(tar: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.fsync, iter(range(100))

    def interrupted(handle: int) -> None:
        if next(calls) == 4:
            raise KeyboardInterrupt
        real(handle)

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_run(tar)
    assert set(content(elsewhere)) == {"runs/.importing/lock"}
