from .door import (
    Candidate as Candidate,
    candidate as candidate,
    promote as promote,
)
from .duel import (
    SEEDS as SEEDS,
    Challenge as Challenge,
    challenge as challenge,
    champion_of as champion_of,
    duel_named as duel_named,
    has_preset as has_preset,
    is_challenge as is_challenge,
    latest_sweep as latest_sweep,
    stand_ins as stand_ins,
    sweep_named as sweep_named,
)
from .judging import Verdict as Verdict, verdict as verdict
from .promoting import choose as choose, preview as preview
from .prompts import usual_prompts as usual_prompts
