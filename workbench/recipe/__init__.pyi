from .denoising import Diffusion as Diffusion
from .faces import Face as Face, measure_crop as measure_crop
from .jobs import Job as Job, jobs_of as jobs_of
from .keys import (
    ContentKeys as ContentKeys,
    batch_of as batch_of,
    first_made as first_made,
    inputs as inputs,
    keys_without_weights as keys_without_weights,
    last_made as last_made,
    library_versions as library_versions,
    sizes as sizes,
    stage_keys as stage_keys,
    stage_named as stage_named,
)
from .latent_preview import Preview as Preview
from .memory_plan import (
    MemoryPlan as MemoryPlan,
    plan_memory as plan_memory,
    residency_of as residency_of,
    tell_plan as tell_plan,
)
from .pipeline import (
    Bench as Bench,
    Result as Result,
    bench as bench,
    carrying_notes as carrying_notes,
    generate as generate,
    generate_many as generate_many,
    idle_settings as idle_settings,
    notes as notes,
)
from .prompt_syntax import parse_prompt as parse_prompt
from .restoration import RestoreFaces as RestoreFaces
from .rows import Answer as Answer, Denoising as Denoising, Row as Row
from .stages.base import BaseSettings as BaseSettings
from .stages.detail import DetailSettings as DetailSettings
from .stages.faces import FacesSettings as FacesSettings
from .stages.refine import RefineSettings as RefineSettings
from .stages.stage import (
    DenoisingStage as DenoisingStage,
    PictureStage as PictureStage,
    Stage as Stage,
)
from .stages.upscale import UpscaleSettings as UpscaleSettings
from .used_models import UsedModel as UsedModel, used_models as used_models
from .wording import one_moment as one_moment, token_count as token_count, without_weights as without_weights
