import base64
import io

from PIL import Image

from workbench.report import markup

EVIL = "<script>alert(\"x\")</script> & 'y'"


def test_text_is_escaped_wherever_it_is_put() -> None:
    data = io.BytesIO()
    Image.new("RGB", (4, 2)).save(data, "JPEG")
    pieces = [
        markup.text(EVIL), markup.bullets([EVIL]), markup.pairs([(EVIL, EVIL)]), markup.scroll("", EVIL),
        markup.table([EVIL], [["1"]], EVIL), markup.image(data.getvalue(), EVIL),
        markup.figure(Image.new("RGB", (4, 2)), EVIL, EVIL),
    ]  # fmt: skip
    for piece in pieces:
        assert "<script" not in piece and '"x"' not in piece and "'y'" not in piece
        assert "&lt;script&gt;alert(&quot;x&quot;)" in piece


def test_a_table_has_headers_for_rows_and_columns() -> None:
    found = markup.table(["setting", "mean"], [["a", "<b>1</b>"], ["c", "2"]], "all", (1,))
    assert '<th scope="col">setting</th><th scope="col" class="n">mean</th>' in found
    assert '<tr><th scope="row">a</th><td class="n"><b>1</b></td></tr>' in found
    assert "<caption>all</caption>" in found and 'role="region" tabindex="0" aria-label="all"' in found


def test_pictures_are_inside_the_page() -> None:
    data = io.BytesIO()
    Image.new("RGB", (40, 20)).save(data, "JPEG")
    found = markup.image(data.getvalue(), "red", more=' class="whole"')
    assert 'width="40" height="20" alt="red" class="whole"' in found
    assert base64.b64decode(found.split("base64,")[1].split('"')[0]) == data.getvalue()
    plot = markup.figure(Image.effect_noise((60, 30), 80).convert("RGB"), "noise", "what it says")
    image = Image.open(io.BytesIO(base64.b64decode(plot.split("base64,")[1].split('"')[0])))
    assert image.format == "PNG" and image.size == (60, 30) and len(image.getcolors() or []) <= 256
