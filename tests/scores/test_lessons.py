"""The lessons hold on a real face: Eileen Collins."""

import numpy as np
import pytest
from PIL import Image

from workbench.errors import NoFace
from workbench.scores.lessons import face_of, gains, ladder, ladder_chart, lesson_sheet, tricks
from workbench.scores.scoring import score


@pytest.fixture(scope="module")
def face(astronaut: Image.Image) -> Image.Image:
    return face_of(astronaut)


def test_the_face_is_aligned(face: Image.Image, astronaut: Image.Image) -> None:
    assert face.size == (512, 512)
    assert score(face).faces[0].eye_distance == pytest.approx(126, abs=10)
    assert face_of(astronaut, score(astronaut)).tobytes() == face.tobytes()
    with pytest.raises(NoFace, match="no face"):
        face_of(Image.new("RGB", (64, 64)))


def test_the_number_falls_on_every_rung(face: Image.Image) -> None:
    rungs = ladder(face, (0.0, 1.0, 2.0, 4.0))
    numbers = [rung.result.sharpness for rung in rungs]
    assert numbers == sorted(numbers, key=lambda n: -(n or 0)) and None not in numbers
    assert rungs[0].name == "as it is" and rungs[0].face.tobytes() == face.tobytes()
    assert rungs[2].name == "blurred by 2 px" and rungs[2].sigma == 2.0
    detail = [np.abs(np.diff(np.asarray(rung.face, float), axis=0)).mean() for rung in rungs]
    assert detail == sorted(detail, reverse=True)
    assert ladder_chart(rungs).picture().size == (840, 300) and "sharpness from" in ladder_chart(rungs).alt


def test_guards_see_the_tricks(face: Image.Image) -> None:
    tried = tricks(face)
    flags = {trick.name: trick.result.flags for trick in tried}
    assert flags["as it is"] == flags["blurred by 2 px"] == ()
    assert "noisy" in flags["then noise, 16 levels"] and "JPEG blocks" in flags["then JPEG, quality 12"]
    assert "haloed" in flags["then sharpened, 500 %"] and "mosaic" in flags["then mosaic, 6 px"]
    assert [t.face.tobytes() for t in tricks(face)] == [t.face.tobytes() for t in tried]  # the noise is drawn alike
    soft = tried[1].result.sharpness or 0.0
    gained = (tried[4].result.sharpness or 0.0) - soft
    assert f"sharpened, 500 % {gained:+.1f} (haloed)" in gains(tried)
    assert gains(tried, least=100.0) == "More than 100 points were gained by: none of them."
    sheet = lesson_sheet(tried, tile=100)
    assert sheet.width > 800 and 150 < sheet.height < 260
