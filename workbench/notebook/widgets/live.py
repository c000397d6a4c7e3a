"""What is being made, in the viewer: one more picture behind the stages', which is the newest there is of this render."""

from __future__ import annotations

from PIL import Image

from workbench.settings import stages

from .pictures import Viewer, ViewerPicture, fine_jpeg

NOW = "now"  # its name among the viewer's stages


class LivePicture:
    """Of one render: while a stage is denoised what it will be, then what it has become, until the last one is finished."""

    def __init__(self, viewer: Viewer, about: str, what: str) -> None:
        """`about`, `what`: as the pictures of this render have them."""
        self._viewer, self._about, self._what = viewer, about, what
        self._picture: list[ViewerPicture] = []
        self._count = 0

    def denoising(self, stage: str, step: int, steps: int, image: Image.Image) -> None:
        """`image`: as a `Preview` of the bench has it. One of a part of the picture is passed over."""
        if not stages()[stage].makes:
            return
        self._count += 1
        words = f"{stages()[stage].label}, denoising {step}/{steps}"
        picture = ViewerPicture(
            id=f"{NOW} {id(self)} {self._count}", name=NOW, label=NOW, about=f"{words}; {self._about}", what=self._what,
            pending=True, width=image.width, height=image.height, picture=fine_jpeg(image),
        )  # fmt: skip
        self._picture = [picture]

    def finished(self, picture: ViewerPicture, *, last: bool) -> None:
        """`picture`: of a stage; behind the last one there is none in the making any more."""
        self._picture = [] if last else [{**picture, "name": NOW, "label": NOW, "pending": True}]

    def paint(self) -> None:
        self._viewer.live = self._picture
