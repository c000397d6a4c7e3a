from .denoising import Answer as Answer, Diffusion as Diffusion, Row as Row
from .faces import Face as Face, measure_crop as measure_crop
from .pipeline import Bench as Bench, Result as Result, bench as bench, generate as generate
from .restoration import RestoreFaces as RestoreFaces
from .stages import (
    LIBRARIES as LIBRARIES,
    ONE as ONE,
    VERSIONS as VERSIONS,
    effective_settings as effective_settings,
    first_step_key as first_step_key,
    inputs as inputs,
    stage_keys as stage_keys,
    unet_evaluations as unet_evaluations,
    weights_identity as weights_identity,
)
