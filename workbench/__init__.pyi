from . import scores as scores
from .errors import WorkbenchError as WorkbenchError
from .evidence import Decision as Decision, decide as decide
from .models import ModelInfo as ModelInfo, inspect_model as inspect_model, model_path as model_path
from .notebook import check_parameters as check_parameters, find_spec as find_spec, headless as headless
from .presets import Preset as Preset, load_preset as load_preset, roll_back as roll_back
from .promotion import challenge as challenge, promote as promote, verdict as verdict
from .recipe import Result as Result, generate as generate, generate_many as generate_many
from .runs import Run as Run, find_run as find_run
from .scores import FaceScores as FaceScores, score as score, score_many as score_many
from .settings import Settings as Settings
from .sweeps import Attached as Attached, attach as attach, plan as plan, start as start, sweep as sweep

__all__: list[str]
