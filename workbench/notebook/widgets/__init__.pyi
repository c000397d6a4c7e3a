from .ballot import Ballot as Ballot
from .promotion_panel import Promotion as Promotion
from .showing import (
    Challengers as Challengers,
    show_chart as show_chart,
    show_duel as show_duel,
    show_verdict as show_verdict,
)
from .sweep_panel import SweepPanel as SweepPanel
from .tuner import Tuner as Tuner
from .wall import Wall as Wall
from .winner_panel import WinnerPanel as WinnerPanel
