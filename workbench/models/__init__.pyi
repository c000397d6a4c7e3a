from .networks import (
    load_retinaface as load_retinaface,
    load_strictly as load_strictly,
    package_folder as package_folder,
    read_tensors as read_tensors,
)
from .upscalers import import_basicsr as import_basicsr
from .weights import (
    LICENCES as LICENCES,
    Report as Report,
    model_path as model_path,
    models_folder as models_folder,
    out_of_memory as out_of_memory,
    peak_memory as peak_memory,
    pinned_threads as pinned_threads,
)
