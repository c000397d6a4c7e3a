from .exchange import ExchangeFormat as ExchangeFormat, Exported as Exported, Imported as Imported
from .known import (
    FORMATS as FORMATS,
    export_settings as export_settings,
    read_picture as read_picture,
    read_text as read_text,
)
from .losses import effect as effect, lost as lost
from .samplers import AUTOMATIC as AUTOMATIC, SCHEDULERS as SCHEDULERS, UPSCALERS as UPSCALERS
