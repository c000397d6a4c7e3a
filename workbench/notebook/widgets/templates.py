"""HTML of the widgets: the files in the folder `templates`, in which whatever is put in is escaped.

For a line too short for a file, `Markup("<p>{}</p>").format(words)` escapes what is put in just the same.
"""

from __future__ import annotations

from functools import cache

import jinja2
from markupsafe import Markup


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("workbench.notebook.widgets"), autoescape=True, undefined=jinja2.StrictUndefined
    )


def render(name: str, **values: object) -> Markup:
    """The template `name`, like "score.html", with `values` put in. The template's first lines say what it takes."""
    return Markup(_templates().get_template(name).render(**values))
