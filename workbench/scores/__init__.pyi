from .fidelity import niqe as niqe
from .heatmaps import heatmap as heatmap
from .measures import (
    FIDELITY as FIDELITY,
    GUARDS as GUARDS,
    MEASURES as MEASURES,
    REGION_SIGMA as REGION_SIGMA,
    REPEATABILITY as REPEATABILITY,
    SHARPNESS as SHARPNESS,
    SIGMA as SIGMA,
    Measure as Measure,
    NotMeasured as NotMeasured,
)
from .scoring import (
    SCORED as SCORED,
    FaceScores as FaceScores,
    cell_scores as cell_scores,
    crop_of as crop_of,
    fidelity_of as fidelity_of,
    preload as preload,
    score as score,
    score_many as score_many,
    sharpness as sharpness,
    versions as versions,
)
