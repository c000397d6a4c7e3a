from .ballot import Ballot as Ballot
from .promotion_panel import Promotion as Promotion
from .sweep_panel import SweepPanel as SweepPanel
from .tuner import Tuner as Tuner
from .wall import Wall as Wall
from .winner_panel import WinnerPanel as WinnerPanel
