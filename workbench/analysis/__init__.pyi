from . import effects as effects, layout as layout, votes as votes
from .effects import dead_words as dead_words, group_words as group_words, ranked as ranked
from .headlines import (
    Best as Best,
    Headline as Headline,
    best_setting as best_setting,
    headline as headline,
    shown_cells as shown_cells,
)
from .layout import (
    Layout as Layout,
    Page as Page,
    Tile as Tile,
    arrange as arrange,
    default_layout as default_layout,
    face_square as face_square,
    measure_named as measure_named,
    number_text as number_text,
    one_page as one_page,
    tile as tile,
    tiles as tiles,
)
from .marks import Mark as Mark, favourites as favourites, mark_cell as mark_cell
