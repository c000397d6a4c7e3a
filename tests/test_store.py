from pathlib import Path

from PIL import Image

from workbench.store import Artefact, Store


def test_kept_on_disk_whole(tmp_path: Path) -> None:
    artefact = Artefact(Image.new("RGB", (4, 4), "red"), b"\x00\x01", {"faces": []}, 1.5)
    Store(tmp_path).put("abcd", artefact, {})
    again = Store(tmp_path).get("abcd")
    assert again is not None
    assert again.image.tobytes() == artefact.image.tobytes()
    assert (again.generator_state, again.info, again.seconds) == (b"\x00\x01", {"faces": []}, 1.5)


def test_a_damaged_picture_is_not_served(tmp_path: Path) -> None:
    Store(tmp_path).put("abcd", Artefact(Image.new("RGB", (4, 4), "red")), {})
    png = next(tmp_path.rglob("*.png"))
    Image.new("RGB", (4, 4), "blue").save(png)
    store = Store(tmp_path)
    assert store.get("abcd") is None
    assert "abcd" not in store
    store.put("abcd", Artefact(Image.new("RGB", (4, 4), "red")), {})
    png.write_bytes(png.read_bytes()[:20])
    assert Store(tmp_path).get("abcd") is None


def test_a_picture_without_its_commit_mark_is_not_there(tmp_path: Path) -> None:
    Store(tmp_path).put("abcd", Artefact(Image.new("RGB", (4, 4))), {})
    next(tmp_path.rglob("*.json")).unlink()
    assert Store(tmp_path).get("abcd") is None


def test_memory_alone(tmp_path: Path) -> None:
    store = Store(None)
    store.put("abcd", Artefact(Image.new("RGB", (4, 4))), {})
    assert "abcd" in store and store.get("abcd") is not None and list(tmp_path.iterdir()) == []
