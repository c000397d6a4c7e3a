from .duel import challenge as challenge, stand_ins as stand_ins
from .judging import Verdict as Verdict, verdict as verdict
from .promoting import choose as choose, preview as preview, promote as promote
