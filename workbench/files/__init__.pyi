from .atomic import (
    check_writable as check_writable,
    home as home,
    locked as locked,
    no_room as no_room,
    read_text as read_text,
    replacing as replacing,
    write_atomic as write_atomic,
    write_json as write_json,
    writing as writing,
)
from .figures import (
    ON_COLOUR as ON_COLOUR,
    Chart as Chart,
    cells_gid as cells_gid,
    figure_picture as figure_picture,
    new_figure as new_figure,
)
from .hashes import (
    checksum_holds as checksum_holds,
    file_sha256 as file_sha256,
    hash_json as hash_json,
    with_checksum as with_checksum,
)
from .lines import (
    LineReader as LineReader,
    append_line as append_line,
    odd_lines as odd_lines,
    read_lines as read_lines,
)
from .picture_texts import PARAMETERS as PARAMETERS, picture_texts as picture_texts
from .pictures import (
    CHUNK as CHUNK,
    contact_sheet as contact_sheet,
    data_url as data_url,
    fitted as fitted,
    infotext as infotext,
    jpeg_bytes as jpeg_bytes,
    open_picture as open_picture,
    package_version as package_version,
    picture_chunks as picture_chunks,
    pixels_sha256 as pixels_sha256,
    png_bytes as png_bytes,
    read_chunk as read_chunk,
    read_settings as read_settings,
    resize as resize,
    save_picture as save_picture,
    settings_in as settings_in,
    to_rgb as to_rgb,
)
from .typed import fits as fits, read_typed as read_typed
