"""HTML by hand: tables, lists and pictures that need no script, in a style that is legible in light and dark.

What is called text here is escaped; what is called HTML is put in as it is.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image

# contrast of text on its background is 4.5 or more in both schemes; checked by axe in tests/test_page.py
PAGE = """
:root{color-scheme:light dark;--text:#1a1a1a;--back:#fff;--soft:#f2f3f5;--line:#c9ccd1;--faint:#55595f;--bad:#a3161d;
--link:#0b57a4}
@media(prefers-color-scheme:dark){:root{--text:#e9eaec;--back:#16181c;--soft:#22252b;--line:#454a53;--faint:#b3b8c0;
--bad:#ff9a94;--link:#8ec5ff}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:82rem;background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;line-height:1.25;margin:.2em 0;overflow-wrap:anywhere}h2{font-size:1.25rem;margin:2em 0 .4em}
h3{font-size:1rem;margin:1.2em 0 .3em}a{color:var(--link)}nav a{margin-right:1em;white-space:nowrap}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15em 1em;margin:.5em 0}dt{color:var(--faint)}
dd{margin:0;overflow-wrap:anywhere}p,li{max-width:70rem}.faint{color:var(--faint)}.bad{color:var(--bad)}
figure{margin:1em 0}figcaption{margin-bottom:.3em}
.wb figure img{background:#fff;max-width:100%;min-width:36rem;height:auto}
fieldset{border:1px solid var(--line);display:inline-block;margin:.5em 0;padding:.2em .8em}label{margin-right:1em}
input:focus-visible+label,.scroll:focus-visible,a:focus-visible,summary:focus-visible{outline:3px solid var(--link)}
.wb .wall td img.face,.wb #faces:checked~.wall td img.whole{display:none}.wb #faces:checked~.wall td img.face{display:block}
@media(max-width:40rem){.wb .wall tbody th{min-width:6em}dl{grid-template-columns:1fr}dt{margin-top:.4em}}
"""
# ".scroll table" makes these outrank what JupyterLab and nbconvert say of cells: right-aligned, in the middle, 12 px
TABLES = """
.wb .scroll{overflow-x:auto;max-width:100%}
.wb .scroll table{border-collapse:collapse;table-layout:auto;margin:0;font-size:.87rem;line-height:1.35}
.wb .scroll table th,.wb .scroll table td{text-align:left;vertical-align:top}
.wb th,.wb td{border:1px solid var(--line,#bbb);padding:.3em .5em}
.wb th{font-weight:600}.wb tbody th{min-width:8.5em}.wb thead th,.wb caption{background:var(--soft,transparent)}
.wb caption{text-align:left;padding:.3em .5em;font-weight:600}
.wb .scroll table .n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.wb .pics{white-space:nowrap}
.wb .wall .scroll td{padding:0;text-align:center;min-width:5.2em}.wb .wall td img{display:block;margin:auto}
.wb .wall th{white-space:pre-line;min-width:6em}.wb .wall tbody th{min-width:9em}
.wb .wall .score{display:block;padding:.1em .3em}
.wb .wall .none{padding:.6em .4em;max-width:11em;overflow-wrap:anywhere}
.wb img{max-width:none}.wb .key span{display:inline-block;padding:.1em .5em}
"""


def text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def bullets(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>"


def pairs(rows: Iterable[tuple[str, Any]]) -> str:
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in rows) + "</dl>"


def scroll(inside: str, label: str) -> str:
    """Wide things scroll on their own; a region that scrolls can be reached and named from the keyboard."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{text(label)}">{inside}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str, numbers: Sequence[int] = ()) -> str:
    """Head and caption are text, cells are HTML; the first of a row is its header; `numbers`: columns set to the right."""
    kind = [' class="n"' if i in numbers else "" for i in range(len(head))]
    top = "".join(f'<th scope="col"{k}>{text(title)}</th>' for k, title in zip(kind, head, strict=True))
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td{k}>{cell}</td>" for k, cell in zip(kind[1:], others, strict=True))
        lines.append(f'<tr><th scope="row"{kind[0]}>{first}</th>{cells}</tr>')
    whole = f"<caption>{text(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return scroll(f"<table>{whole}</table>", caption)


def image(data: bytes, alt: str, kind: str = "jpeg", more: str = "") -> str:
    """A picture inside the page; `more`: HTML attributes."""
    width, height = Image.open(io.BytesIO(data)).size
    source = base64.b64encode(data).decode()
    return f'<img src="data:image/{kind};base64,{source}" width="{width}" height="{height}" alt="{text(alt)}"{more}>'


def figure(picture: Image.Image, title: str, alt: str) -> str:
    """A plot with its caption. As PNG of 256 colours: its letters stay crisp, which JPEG blurs."""
    buffer = io.BytesIO()
    picture.quantize(256).save(buffer, "PNG", optimize=True)
    return (
        f"<figure><figcaption>{text(title)}</figcaption>{scroll(image(buffer.getvalue(), alt, 'png'), title)}</figure>"
    )
