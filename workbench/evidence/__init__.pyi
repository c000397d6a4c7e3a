from .comparing import Comparison as Comparison, compare as compare
from .deciding import MARGIN as MARGIN, Decision as Decision, Scope as Scope, Word as Word, decide as decide
from .domination import dominated as dominated
from .intervals import (
    SharesApart as SharesApart,
    mean_interval as mean_interval,
    shares_apart as shares_apart,
    wilson as wilson,
)
from .mixed_model import Surface as Surface
