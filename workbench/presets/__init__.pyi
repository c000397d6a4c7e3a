from .licences_used import licences as licences
from .preset import (
    NAME as NAME,
    Preset as Preset,
    check_preset_name as check_preset_name,
    history as history,
    list_presets as list_presets,
    load_preset as load_preset,
    presets_folder as presets_folder,
    roll_back as roll_back,
)
