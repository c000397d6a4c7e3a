from .change_log import PresetChange as PresetChange, RunSample as RunSample
from .licences_used import forbids_serving as forbids_serving, licences as licences, preset_licences as preset_licences
from .preset import (
    ALLOWED as ALLOWED,
    NAME as NAME,
    SHIPPED as SHIPPED,
    Preset as Preset,
    ReplacedPreset as ReplacedPreset,
    check_preset_name as check_preset_name,
    check_replaceable as check_replaceable,
    damaged_presets as damaged_presets,
    history as history,
    list_presets as list_presets,
    load_preset as load_preset,
    preset_changes as preset_changes,
    presets_folder as presets_folder,
    roll_back as roll_back,
)
from .promise import promise_withdrawn as promise_withdrawn
