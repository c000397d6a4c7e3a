from .execution import (
    check_parameters as check_parameters,
    find_spec as find_spec,
    headless as headless,
    run_notebook as run_notebook,
)
