from .archive import RunArchive as RunArchive, check_export as check_export, export_run as export_run
from .axes import JOIN as JOIN, label as label, listed as listed, plain as plain, swept as swept, told as told
from .identical import (
    SameValues as SameValues,
    by_block as by_block,
    repeated as repeated,
    same_pictures as same_pictures,
    same_prompts as same_prompts,
    same_values as same_values,
)
from .records import (
    DONE as DONE,
    About as About,
    AxisValue as AxisValue,
    JsonObject as JsonObject,
    Record as Record,
    ResolvedSpec as ResolvedSpec,
    RunSpec as RunSpec,
    Scores as Scores,
    SearchState as SearchState,
    SettingValues as SettingValues,
    journal_line as journal_line,
)
from .run import (
    Run as Run,
    begun_run as begun_run,
    broken_runs as broken_runs,
    find_run as find_run,
    list_runs as list_runs,
    open_run as open_run,
)
from .tables import (
    BLOCKING as BLOCKING,
    SettingRow as SettingRow,
    setting_rows as setting_rows,
    write_table as write_table,
)
from .unpacking import import_run as import_run
