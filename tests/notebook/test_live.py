"""The picture in the making, in the viewer."""

from PIL import Image

from workbench.notebook.widgets.live import NOW, LivePicture
from workbench.notebook.widgets.picture_files import MadePictures
from workbench.notebook.widgets.pictures import Viewer, ViewerPicture
from workbench.recipe import bench

FINISHED = ViewerPicture(
    id="7", name="base", label="Base", about="full", what="full", pending=False, width=8, height=8, picture=b""
)


def test_what_is_denoised_is_the_last_picture_until_all_stages_are_finished() -> None:
    viewer = Viewer(files=MadePictures(bench).file, acts={})
    live = LivePicture(viewer, "seed 1", "full")
    live.denoising("base", 7, 25, Image.new("RGB", (32, 32)))
    live.paint()
    (shown,) = viewer.live
    assert shown["name"] == NOW and shown["pending"] and shown["about"] == "Base, denoising 7/25; seed 1"
    assert shown["picture"].startswith(b"\xff\xd8")
    live.finished(FINISHED, last=False)
    live.paint()
    assert viewer.live[0]["id"] == "7" and viewer.live[0]["name"] == NOW and viewer.live[0]["pending"]
    live.finished(FINISHED, last=True)
    live.paint()
    assert viewer.live == []


def test_a_part_of_the_picture_is_not_taken_for_the_whole() -> None:
    viewer = Viewer(files=MadePictures(bench).file, acts={})
    live = LivePicture(viewer, "", "full")
    live.denoising("detail", 1, 4, Image.new("RGB", (32, 32)))
    live.paint()
    assert viewer.live == []
