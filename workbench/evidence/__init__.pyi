from .deciding import Decision as Decision, decide as decide, more_pairs as more_pairs
from .domination import dominated as dominated
from .intervals import LEVEL as LEVEL, half_width as half_width, mean_interval as mean_interval, wilson as wilson
from .mixed_model import Surface as Surface
