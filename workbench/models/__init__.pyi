from .adapters import Adapters as Adapters
from .checkpoints import Checkpoint as Checkpoint
from .dlib_resnet import DLIB_CHIP as DLIB_CHIP, load_dlib_resnet as load_dlib_resnet
from .driver import Card as Card, cards as cards, driver_report as driver_report
from .embeddings import Embedding as Embedding, embeddings_in as embeddings_in
from .face_restorers import FaceRestorer as FaceRestorer, load_face_restorer as load_face_restorer
from .finding import (
    BASES as BASES,
    HUB_ID as HUB_ID,
    checkpoint_in as checkpoint_in,
    file_digest as file_digest,
    model_path as model_path,
    models_folder as models_folder,
    refiner_path as refiner_path,
    vae_path as vae_path,
)
from .hardware import (
    PeakMemory as PeakMemory,
    card_problem as card_problem,
    out_of_memory as out_of_memory,
    pinned_threads as pinned_threads,
)
from .headers import read_header as read_header, tensors_sha256 as tensors_sha256
from .inspection import (
    ModelInfo as ModelInfo,
    inspect_model as inspect_model,
    list_models as list_models,
    network_in as network_in,
    place_of as place_of,
)
from .licences import (
    LICENCES as LICENCES,
    NOT_SERVED as NOT_SERVED,
    UNKNOWN as UNKNOWN,
    licence_of as licence_of,
)
from .loras import LoraFile as LoraFile, lora_file as lora_file, lora_path as lora_path
from .memory import full_size_alive as full_size_alive, sdxl_uses as sdxl_uses
from .numerics import numerics as numerics
from .pipelines import Report as Report, Sampling as Sampling
from .placing import Placement as Placement, is_empty as is_empty
from .process import alone as alone, begin as begin, beside as beside, keep_memory as keep_memory
from .random_weights import write_random_sdxl as write_random_sdxl
from .realesrgan import import_basicsr as import_basicsr
from .residency import (
    FILL as FILL,
    DeviceUse as DeviceUse,
    Residency as Residency,
    Role as Role,
    fitting as fitting,
    peak as peak,
    residency_words as residency_words,
)
from .restorers import (
    CODEFORMER as CODEFORMER,
    RESTORER_FILES as RESTORER_FILES,
    RESTORERS as RESTORERS,
    RestorerKind as RestorerKind,
    restorer_file as restorer_file,
    restorer_kind as restorer_kind,
)
from .retinaface import load_retinaface as load_retinaface
from .samplers import (
    ALIGN_YOUR_STEPS as ALIGN_YOUR_STEPS,
    AUTOMATIC as AUTOMATIC,
    SAMPLERS as SAMPLERS,
    SCHEDULE_ALIASES as SCHEDULE_ALIASES,
    SIGMAS as SIGMAS,
    SPACINGS as SPACINGS,
    Sampler as Sampler,
    SamplerSteps as SamplerSteps,
    Schedule as Schedule,
    sampler_steps as sampler_steps,
    webui_schedule as webui_schedule,
)
from .sdxl import Dtype as Dtype, Sdxl as Sdxl
from .speed import (
    counting_flops as counting_flops,
    matmul_rate as matmul_rate,
    settle as settle,
    timed as timed,
    unet_gains as unet_gains,
)
from .tensors import package_folder as package_folder
from .tokens import ENCODERS as ENCODERS, Tokenizers as Tokenizers, tokenizers_of as tokenizers_of
from .upscaler_files import (
    REALESRGAN_NAMES as REALESRGAN_NAMES,
    UPSCALER_FILES as UPSCALER_FILES,
    WEBUI_UPSCALERS as WEBUI_UPSCALERS,
    upscaler_digest as upscaler_digest,
    upscaler_identity as upscaler_identity,
    upscaler_licence as upscaler_licence,
    upscaler_path as upscaler_path,
    upscaler_work as upscaler_work,
    webui_upscaler as webui_upscaler,
)
from .upscalers import LoadedUpscaler as LoadedUpscaler, load_upscaler as load_upscaler
from .weights import (
    detector_digest as detector_digest,
    detector_identity as detector_identity,
    detector_path as detector_path,
    restorer_path as restorer_path,
)
