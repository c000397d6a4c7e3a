from .afterwards import Afterwards as Afterwards
from .around import (
    FinerSweep as FinerSweep,
    finer as finer,
    finer_words as finer_words,
    toml_value as toml_value,
)
from .board import Board as Board, Claims as Claims
from .costs import Costs as Costs, work_units as work_units
from .detached import Attached as Attached, attach as attach, start as start
from .engine import IDLE as IDLE
from .estimating import Estimate as Estimate, estimate as estimate
from .graph import Graph as Graph, Task as Task
from .planning import Cell as Cell, Plan as Plan, plan as plan
from .session import last_session as last_session, prepare as prepare, sweep as sweep
from .spec import (
    NAMED as NAMED,
    Spec as Spec,
    is_range as is_range,
    make_spec as make_spec,
    write_out as write_out,
)
