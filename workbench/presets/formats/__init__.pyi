from .exchange import ExchangeFormat as ExchangeFormat, Exported as Exported, Imported as Imported
from .infotext import Infotext as Infotext, parse_infotext as parse_infotext
from .known import (
    FORMATS as FORMATS,
    export_settings as export_settings,
    read_picture as read_picture,
    read_text as read_text,
)
from .losses import effect as effect, lost as lost
from .samplers import SCHEDULERS as SCHEDULERS, UPSCALERS as UPSCALERS
