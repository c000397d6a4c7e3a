import numpy as np
from PIL import Image, ImageFilter

from workbench.scores.heatmaps import heatmap


def test_soft_faces_are_darker(hopper: Image.Image) -> None:
    """The map itself is bright where the face is sharp; everything round it is the same picture."""
    sharp, soft = (
        np.asarray(heatmap(hopper.filter(ImageFilter.GaussianBlur(radius))).convert("L")).astype(float)
        for radius in (0, 4)
    )
    assert sharp.shape == soft.shape
    middle = np.s_[150:350, 500:700]
    assert sharp[middle].mean() > soft[middle].mean() + 15


def test_no_face_is_said_in_the_picture() -> None:
    picture = np.asarray(heatmap(Image.new("RGB", (100, 100), "grey")))
    assert picture.min() < 60 and (picture > 250).mean() > 0.9  # black words on white
