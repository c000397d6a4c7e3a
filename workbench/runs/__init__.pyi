from .run import (
    BLOCKING as BLOCKING,
    DONE as DONE,
    Run as Run,
    alike as alike,
    begun_run as begun_run,
    find_run as find_run,
    list_runs as list_runs,
    listed as listed,
    open_run as open_run,
    plain as plain,
    swept as swept,
)
