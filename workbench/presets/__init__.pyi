from .change_log import PresetChange as PresetChange, RunSample as RunSample
from .folder import (
    SHIPPED as SHIPPED,
    ReplacedPreset as ReplacedPreset,
    check_replaceable as check_replaceable,
    damaged_presets as damaged_presets,
    history as history,
    list_aliases as list_aliases,
    list_presets as list_presets,
    load_preset as load_preset,
    make_alias as make_alias,
    names_behind as names_behind,
    preset_changes as preset_changes,
    presets_folder as presets_folder,
    roll_back as roll_back,
)
from .licences_used import forbids_serving as forbids_serving, licences as licences, preset_licences as preset_licences
from .preset import ENVIRONMENTS as ENVIRONMENTS, NAME as NAME, Preset as Preset, check_preset_name as check_preset_name
from .preset_file import ALLOWED as ALLOWED, preset_schema as preset_schema
from .promise import other_models as other_models, promise_withdrawn as promise_withdrawn
from .verifying import LogCheck as LogCheck, verify_presets as verify_presets
