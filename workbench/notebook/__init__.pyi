from .execution import run_notebook as run_notebook
from .front_end import headless as headless
from .parameters import check_parameters as check_parameters, find_spec as find_spec
